package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// output is the form in which a command prints data.
type output string

// String, Set and Type make it a flag's value.
func (o *output) String() string { return string(*o) }
func (o *output) Type() string   { return "text|json" }
func (o *output) Set(s string) error {
	if s != "text" && s != "json" {
		return fmt.Errorf("%q must be text or json", s)
	}
	*o = output(s)
	return nil
}

// addOutput adds -o to a command that prints data.
func addOutput(cmd *cobra.Command) *output {
	o := output("text")
	cmd.Flags().VarP(&o, "output", "o", "how to print: text or json")
	return &o
}

// printer prints to a command's standard output.
type printer struct {
	w    io.Writer
	json bool
}

func (o *output) printer(cmd *cobra.Command) printer {
	return printer{cmd.OutOrStdout(), *o == "json"}
}

// object prints v as JSON, or else the pairs of label and value.
func (p printer) object(v any, pairs ...[2]string) error {
	if p.json {
		return p.encode(v)
	}
	w := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	for _, pair := range pairs {
		if pair[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", pair[0], pair[1])
		}
	}
	return w.Flush()
}

func (p printer) encode(v any) error {
	e := json.NewEncoder(p.w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printList prints items as a JSON list, or else as a table with a row each.
func printList[T any](p printer, items []T, heads []string, row func(T) []string) error {
	if p.json {
		if items == nil {
			items = []T{}
		}
		return p.encode(map[string]any{"items": items})
	}
	w := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heads, "\t"))
	for _, item := range items {
		fmt.Fprintln(w, strings.Join(row(item), "\t"))
	}
	return w.Flush()
}

// everything reads a list to its end, page by page.
func everything[T any](page func(last *T, limit int) ([]T, error)) ([]T, error) {
	const limit = 500
	var all []T
	for {
		var last *T
		if len(all) > 0 {
			last = &all[len(all)-1]
		}
		items, err := page(last, limit)
		all = append(all, items...)
		if err != nil || len(items) < limit {
			return all, err
		}
	}
}

// note tells people something beside the output; who wants JSON is a program.
func note(cmd *cobra.Command, format string, args ...any) {
	if f := cmd.Flag("output"); f != nil && f.Value.String() == "json" {
		return
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "note: "+format+"\n", args...)
}

// stamp is in UTC, as logs and the console are.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func yes(b bool, word string) string {
	if b {
		return word
	}
	return ""
}
