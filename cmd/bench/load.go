package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"slices"
	"strconv"
	"sync"
	"time"
)

// userAgent is as long as that of a browser: the sessions table keeps it, and the log of an update may hold it.
const userAgent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"

// scenario is a kind of request to be made again and again.
type scenario struct {
	name     string
	requests [][]byte                   // whole requests, ready to be sent; each belongs to one connection at a time
	want     string                     // what a good answer holds
	rotates  bool                       // the requests end with a refresh token, to be replaced by the one in the answer
	renew    func(request []byte) error // what has to be new in a request before it is sent; may be nil
	open     floor                      // instead of all that: what makes the steps where one is more than a request
	floor    floor
	bare     floor // the same work on the bare server; may be nil
}

// postRequest is an HTTP request with a form, and one header of its own.
func postRequest(addr, path, header, form string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\n%s\r\n"+
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
		path, addr, userAgent, header, len(form), form)
}

// basic is the header by which a client authenticates.
func basic(id, secret string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

// step does one thing that is measured.
type step func() error

// refusal is an answer that is not the wanted one. The connection it came on is still good.
type refusal struct{ status, body string }

func (r *refusal) Error() string { return fmt.Sprintf("%q: %.300s", r.status, r.body) }

// workers connects n times; each connection has its own share of the requests and cycles through it. It returns the steps and
// what closes the connections.
func (s *scenario) workers(ctx context.Context, addr string, n int) (steps []step, closeAll func(), err error) {
	if s.open != nil {
		return s.open(ctx, n)
	}
	var clients []*client
	closeAll = func() {
		for _, c := range clients {
			c.conn.Close()
		}
	}
	if len(s.requests) < n {
		return nil, nil, fmt.Errorf("%s has %d different requests, too few for %d connections", s.name, len(s.requests), n)
	}
	for i := range n {
		c, err := dial(ctx, addr)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		clients = append(clients, c)
		next, want := i, []byte(s.want)
		steps = append(steps, func() error {
			request := s.requests[next]
			if s.renew != nil {
				if err := s.renew(request); err != nil {
					return err
				}
			}
			if err := c.do(request); err != nil {
				return err
			}
			if c.status != goodStatus || !bytes.Contains(c.body, want) {
				return &refusal{c.status, string(c.body)}
			}
			if s.rotates {
				if err := replaceToken(request, c.body); err != nil {
					return err
				}
			}
			if next += n; next >= len(s.requests) {
				next = i
			}
			return nil
		})
	}
	return steps, closeAll, nil
}

var tokenMember = []byte(`"refresh_token":"`)

// replaceToken puts the refresh token of the answer at the end of the request.
func replaceToken(request, answer []byte) error {
	at := bytes.Index(answer, tokenMember) + len(tokenMember)
	length := bytes.IndexByte(answer[at:], '"')
	if at < len(tokenMember) || length < 0 {
		return errors.New("the answer holds no refresh token")
	}
	old := request[bytes.LastIndexByte(request, '=')+1:]
	if len(old) != length {
		return errors.New("the refresh token in the answer is of another length than the one before")
	}
	copy(old, answer[at:at+length])
	return nil
}

// client is one connection. It is as lean as can be, for it takes its CPU time from the server that it measures.
type client struct {
	conn   net.Conn
	r      *bufio.Reader
	status string
	body   []byte

	location string // where the answer sends the browser
}

func dial(ctx context.Context, addr string) (*client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, r: bufio.NewReader(conn)}, nil
}

const (
	goodStatus   = "HTTP/1.1 200 OK"
	longestWait  = 30 * time.Second
	longHeader   = "Content-Length:"
	wayHeader    = "Location: "
	chunkedCoded = "Transfer-Encoding: chunked"
)

// do sends the request and reads the answer into status and body.
func (c *client) do(request []byte) error {
	if err := c.conn.SetDeadline(time.Now().Add(longestWait)); err != nil {
		return err
	}
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	if c.status = goodStatus; string(line) != goodStatus {
		c.status = string(line)
	}
	length, chunked := 0, false
	for {
		if line, err = c.line(); err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		if len(line) > len(longHeader) && string(line[:len(longHeader)]) == longHeader {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(longHeader):]))); err != nil {
				return err
			}
		}
		if len(line) > len(wayHeader) && string(line[:len(wayHeader)]) == wayHeader {
			c.location = string(line[len(wayHeader):])
		}
		chunked = chunked || string(line) == chunkedCoded
	}
	if chunked {
		if c.body, err = io.ReadAll(httputil.NewChunkedReader(c.r)); err == nil {
			_, err = c.line() // the empty line behind the last chunk
		}
		return err
	}
	c.body = slices.Grow(c.body[:0], length)[:length]
	_, err = io.ReadFull(c.r, c.body)
	return err
}

// line reads a line; it is good until the next read.
func (c *client) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}

// outcome is what a number of workers did in some time.
type outcome struct {
	done    int
	elapsed time.Duration
	errors  int
	sample  error           // one of the errors
	times   []time.Duration // how long each step took that went well, in order of size
}

func (o *outcome) perSecond() float64 { return float64(o.done) / o.elapsed.Seconds() }

// percentile returns the time that p percent of the steps stayed below.
func (o *outcome) percentile(p float64) time.Duration {
	if len(o.times) == 0 {
		return 0
	}
	return o.times[min(len(o.times)-1, int(p/100*float64(len(o.times))))]
}

// drive lets every worker repeat its step, one at once, until the time is over, or limit times if that is not 0.
func drive(ctx context.Context, steps []step, d time.Duration, limit int) outcome {
	var all outcome
	var mu sync.Mutex
	var working sync.WaitGroup
	began := time.Now()
	end := began.Add(d)
	for _, do := range steps {
		working.Go(func() {
			own := outcome{times: make([]time.Duration, 0, 1<<14)}
			for now := time.Now(); ctx.Err() == nil; {
				if limit > 0 && len(own.times) == limit || limit == 0 && !now.Before(end) {
					break
				}
				err := do()
				after := time.Now()
				if err != nil {
					own.errors++
					own.sample = err
					if refused := (*refusal)(nil); !errors.As(err, &refused) || limit > 0 {
						break // there is no connection to go on with, or no end to be reached
					}
				} else {
					own.times = append(own.times, after.Sub(now))
				}
				now = after
			}
			mu.Lock()
			defer mu.Unlock()
			all.times = append(all.times, own.times...)
			all.errors += own.errors
			if own.sample != nil {
				all.sample = own.sample
			}
		})
	}
	working.Wait()
	all.elapsed, all.done = time.Since(began), len(all.times)
	slices.Sort(all.times)
	return all
}
