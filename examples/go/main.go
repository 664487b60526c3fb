// Places an order, and publishes the event of it in the same transaction. database/sql with lib/pq, Go 1.19 or newer.
//
//	DATABASE_URL=postgres://... go run . keyboard 2
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"time"

	"github.com/lib/pq"
)

const attempts = 5

var errOutOfStock = errors.New("too few are left")

type order struct {
	Order    int64  `json:"order"`
	Item     string `json:"item"`
	Quantity int    `json:"quantity"`
}

// currentTraceparent is NULL without a trace. With OpenTelemetry, of the current span:
//
//	carrier := propagation.MapCarrier{}
//	propagation.TraceContext{}.Inject(ctx, carrier)
//	traceparent := carrier.Get("traceparent")
func currentTraceparent(_ context.Context) sql.NullString {
	traceparent, found := os.LookupEnv("TRACEPARENT")
	return sql.NullString{String: traceparent, Valid: found}
}

// publish writes an event in tx and returns its id.
func publish(ctx context.Context, tx *sql.Tx, eventType string, eventContext any) (string, error) {
	encoded, err := json.Marshal(eventContext)
	if err != nil {
		return "", err
	}
	var id string
	// A string, because lib/pq sends []byte as bytea.
	err = tx.QueryRowContext(ctx, `
		SELECT outbox.publish(event_type => $1, event_context => $2, metadata_version => 1, traceparent => $3)
	`, eventType, string(encoded), currentTraceparent(ctx)).Scan(&id)
	return id, err
}

func placeOrder(ctx context.Context, db *sql.DB, placed order) (order, string, error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		return placed, "", err
	}
	// Whatever returns early rolls everything back, the event with it. After Commit it does nothing.
	defer tx.Rollback()
	err = tx.QueryRowContext(ctx,
		`INSERT INTO orders (item, quantity) VALUES ($1, $2) RETURNING id`, placed.Item, placed.Quantity,
	).Scan(&placed.Order)
	if err != nil {
		return placed, "", err
	}
	event, err := publish(ctx, tx, "order_placed", placed)
	if err != nil {
		return placed, "", err
	}
	var left int
	err = tx.QueryRowContext(ctx,
		`UPDATE stock SET quantity = quantity - $2 WHERE item = $1 AND quantity >= $2 RETURNING quantity`,
		placed.Item, placed.Quantity,
	).Scan(&left)
	if errors.Is(err, sql.ErrNoRows) {
		return placed, "", errOutOfStock
	}
	if err != nil {
		return placed, "", err
	}
	return placed, event, tx.Commit()
}

// givenUp says that Postgres gave the transaction up. It wrote nothing, no event either, so the whole of it may run again.
func givenUp(err error) bool {
	var refused *pq.Error
	// Serialisation failure, deadlock.
	return errors.As(err, &refused) && (refused.Code == "40001" || refused.Code == "40P01")
}

func withRetry(run func() (order, string, error)) (order, string, error) {
	for attempt := 1; ; attempt++ {
		placed, event, err := run()
		if !givenUp(err) || attempt == attempts {
			return placed, event, err
		}
		fmt.Fprintf(os.Stderr, "attempt %d: %v\n", attempt, err)
		time.Sleep(time.Duration(rand.Int63n(int64(50*time.Millisecond) << attempt)))
	}
}

func run() error {
	quantity, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	db, err := sql.Open("postgres", os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer db.Close()
	ctx := context.Background()
	placed, event, err := withRetry(func() (order, string, error) {
		return placeOrder(ctx, db, order{Item: os.Args[1], Quantity: quantity})
	})
	if errors.Is(err, errOutOfStock) {
		return fmt.Errorf("nothing was written: %w", err)
	}
	if err != nil {
		return err
	}
	fmt.Printf("order %d, event %s\n", placed.Order, event)
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
