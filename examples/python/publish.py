"""Places an order, and publishes the event of it in the same transaction. psycopg 3, Python 3.9 or newer.

DATABASE_URL=postgres://... python3 publish.py keyboard 2
"""

import os
import random
import sys
import time

import psycopg
from psycopg.types.json import Jsonb

ATTEMPTS = 5


class OutOfStock(Exception):
    pass


def current_traceparent():
    # With OpenTelemetry, of the current span:
    #   carrier = {}
    #   opentelemetry.propagate.inject(carrier)
    #   return carrier.get("traceparent")
    return os.environ.get("TRACEPARENT")


def publish(connection, event_type, event_context):
    """In the transaction that is open on the connection. Returns the event's id."""
    row = connection.execute(
        """
        SELECT outbox.publish(
          event_type => %(type)s, event_context => %(context)s, metadata_version => 1, traceparent => %(traceparent)s
        )
        """,
        {"type": event_type, "context": Jsonb(event_context), "traceparent": current_traceparent()},
    ).fetchone()
    return row[0]


def place_order(connection, item, quantity):
    # An exception rolls everything in the block back, the event with it.
    with connection.transaction():
        (order,) = connection.execute(
            "INSERT INTO orders (item, quantity) VALUES (%s, %s) RETURNING id", (item, quantity)
        ).fetchone()
        event = publish(connection, "order_placed", {"order": order, "item": item, "quantity": quantity})
        left = connection.execute(
            "UPDATE stock SET quantity = quantity - %(n)s WHERE item = %(item)s AND quantity >= %(n)s RETURNING quantity",
            {"item": item, "n": quantity},
        ).fetchone()
        if left is None:
            raise OutOfStock(f"fewer than {quantity} of {item} are left")
    return order, event


def with_retry(run):
    """A transaction that Postgres gave up wrote nothing, no event either: so the whole of it is run again."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return run()
        except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected) as error:
            if attempt == ATTEMPTS:
                raise
            print(f"attempt {attempt}: {error.diag.message_primary}", file=sys.stderr)
            time.sleep(random.uniform(0, 0.05 * 2**attempt))


def main():
    item, quantity = sys.argv[1], int(sys.argv[2])
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        try:
            order, event = with_retry(lambda: place_order(connection, item, quantity))
        except OutOfStock as error:
            sys.exit(f"nothing was written: {error}")
    print(f"order {order}, event {event}")


if __name__ == "__main__":
    main()
