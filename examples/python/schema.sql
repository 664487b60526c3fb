-- What examples/python and examples/go sell.
CREATE TABLE stock (
  item text PRIMARY KEY,
  quantity integer NOT NULL CHECK (quantity >= 0)
);

CREATE TABLE orders (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  item text NOT NULL REFERENCES stock,
  quantity integer NOT NULL CHECK (quantity > 0)
);

INSERT INTO stock VALUES ('keyboard', 5);
