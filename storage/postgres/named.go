package postgres

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
)

// named are the arguments of a statement, for its placeholders @name. They do what pgx.NamedArgs do, but the text of a statement is
// read once, and not for each request: to read that of a login by code took a seventh of the server's time for it.
type named map[string]any

// numbered is a statement with placeholders $1, $2 …, and the names that they had.
type numbered struct {
	sql   string
	names []string
}

// texts are the statements that have been read, by what they were. There are few: constants, and what is put together from them.
var texts sync.Map

// RewriteQuery implements pgx.QueryRewriter. A name without an argument is an error.
func (a named) RewriteQuery(ctx context.Context, conn *pgx.Conn, sql string, _ []any) (string, []any, error) {
	known, read := texts.Load(sql)
	n, _ := known.(numbered)
	if !read {
		names := make(pgx.NamedArgs, len(a)) // each with itself as its value, to learn their order
		for name := range a {
			names[name] = name
		}
		text, ordered, err := names.RewriteQuery(ctx, conn, sql, nil)
		if err != nil {
			return "", nil, err
		}
		n.sql = text
		for _, value := range ordered {
			name, _ := value.(string)
			n.names = append(n.names, name)
		}
	}
	args := make([]any, len(n.names))
	for i, name := range n.names {
		var ok bool
		if args[i], ok = a[name]; !ok {
			return "", nil, fmt.Errorf("this statement has a name without an argument: %s", sql)
		}
	}
	if !read {
		texts.Store(sql, n)
	}
	return n.sql, args, nil
}
