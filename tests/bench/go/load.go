package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sort"
	"sync"
	"time"
)

// load asks as many clients do and prints one JSON object of what they saw. With a rate, requests begin on time whether or not
// earlier ones have ended (open loop), and what waits for a free client counts as latency. A share of them may leave before the end.

type sample struct {
	status       int
	first, whole time.Duration
	events       int
	bytes        int
	left         bool
}

// ask sends one request. It leaves after `patience`, unless that is 0.
func ask(c *http.Client, url string, body []byte, due time.Time, patience time.Duration) (s sample) {
	ctx := context.Background()
	if patience > 0 {
		limited, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		defer func() { s.left = limited.Err() != nil }()
		ctx = limited
	}
	request, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(body))
	check(err)
	request.Header.Set("content-type", "application/json")
	reply, err := c.Do(request)
	if err != nil {
		return sample{whole: time.Since(due)}
	}
	defer reply.Body.Close()
	s = sample{status: reply.StatusCode}
	buffer := make([]byte, 65536)
	for {
		n, err := reply.Body.Read(buffer)
		if n > 0 {
			if s.first == 0 {
				s.first = time.Since(due)
			}
			s.bytes += n
			s.events += bytes.Count(buffer[:n], []byte(`"content":`))
		}
		if err != nil {
			if err != io.EOF {
				s.status = 0
			}
			s.whole = time.Since(due)
			return s
		}
	}
}

func quantiles(values []time.Duration) map[string]float64 {
	if len(values) == 0 {
		return nil
	}
	sort.Slice(values, func(i, j int) bool { return values[i] < values[j] })
	at := func(share float64) float64 {
		return float64(values[min(len(values)-1, int(share*float64(len(values))))].Microseconds()) / 1000
	}
	return map[string]float64{"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1)}
}

func load(arguments []string) {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	url := flags.String("url", "", "where to")
	file := flags.String("body", "", "file with the request's body")
	clients := flags.Int("clients", 16, "at once at most")
	rate := flags.Float64("rate", 0, "requests per second; 0: each client asks again when it has its answer")
	seconds := flags.Duration("for", 3*time.Second, "how long")
	share := flags.Float64("leave", 0, "share of the requests whose client leaves")
	longest := flags.Duration("leave-within", 500*time.Millisecond, "when it leaves: at a random moment before that")
	check(flags.Parse(arguments))
	body, err := os.ReadFile(*file)
	check(err)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: *clients, MaxConnsPerHost: *clients, DisableCompression: true}}
	due := make(chan time.Time, 1<<20)
	began := time.Now()
	end := began.Add(*seconds)
	if *rate > 0 {
		go func() {
			gap := time.Duration(float64(time.Second) / *rate)
			for at := began; at.Before(end); at = at.Add(gap) {
				time.Sleep(time.Until(at))
				due <- at
			}
			close(due)
		}()
	}
	var lock sync.Mutex
	var group sync.WaitGroup
	all := []sample{}
	for range *clients {
		group.Add(1)
		go func() {
			defer group.Done()
			for {
				at := time.Now()
				if *rate > 0 {
					next, open := <-due
					if !open {
						return
					}
					at = next
				} else if !at.Before(end) {
					return
				}
				patience := time.Duration(0)
				if rand.Float64() < *share {
					patience = 1 + rand.N(*longest)
				}
				s := ask(client, *url, body, at, patience)
				lock.Lock()
				all = append(all, s)
				lock.Unlock()
			}
		}()
	}
	group.Wait()
	took := time.Since(began).Seconds()
	statuses := map[int]int{}
	byStatus := map[int][]time.Duration{}
	var first, whole []time.Duration
	events, left := 0, 0
	for _, s := range all {
		if s.left {
			left++
			continue
		}
		statuses[s.status]++
		byStatus[s.status] = append(byStatus[s.status], s.whole)
		if s.status == 200 {
			first, whole = append(first, s.first), append(whole, s.whole)
			events += s.events
		}
	}
	shed := quantiles(byStatus[503])
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"seconds": took, "statuses": statuses, "first_ms": quantiles(first), "whole_ms": quantiles(whole), "shed_ms": shed, "events": events, "left": left,
	})
}
