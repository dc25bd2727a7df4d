package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A scripted Triton with an engine whose steps cost nothing: at each tick every running sequence gets one token. It speaks the
// channel (submit, cancel, status, one event stream), and OpenAI's form for the proxies it is compared with, on the same ticks.

type sequence struct {
	id      string
	made    int
	tokens  int
	prompt  int
	channel *client
	direct  chan string
}

// client is what the engine keeps of one gateway: numbered batches, and enough of the past to say it again after a cut.
type client struct {
	epoch  int
	open   bool
	number int
	past   [][]byte
	news   chan struct{}
}

const kept = 4096

// after returns the batches behind `number`; false if some of them are gone or never were. The caller holds the lock.
func (c *client) after(number int) ([][]byte, bool) {
	if number > c.number || c.number-number > len(c.past) {
		return nil, false
	}
	return c.past[len(c.past)-(c.number-number):], true
}

type engine struct {
	sync.Mutex
	clients map[string]*client
	running map[string]*sequence
	direct  int
	words   []string
}

type message struct {
	Op        string   `json:"op"`
	Instance  string   `json:"instance"`
	Epoch     int      `json:"epoch"`
	After     int      `json:"after"`
	IDs       []string `json:"ids"`
	Sequences []struct {
		ID       string          `json:"id"`
		Prompt   json.RawMessage `json:"prompt"`
		Sampling struct {
			MaxTokens int `json:"max_tokens"`
		} `json:"sampling"`
	} `json:"sequences"`
}

func (e *engine) step() {
	e.Lock()
	defer e.Unlock()
	rows := map[*client][]string{}
	for key, s := range e.running {
		word := e.words[s.made%len(e.words)]
		s.made++
		last := s.made >= s.tokens
		if s.direct != nil {
			s.direct <- word
			if last {
				close(s.direct)
			}
		} else {
			row := fmt.Sprintf(`["%s",%q]`, s.id, word)
			if last {
				row = fmt.Sprintf(`["%s",%q,1,"length",[%d,%d]]`, s.id, word, s.prompt, s.made)
			}
			rows[s.channel] = append(rows[s.channel], row)
		}
		if last {
			delete(e.running, key)
		}
	}
	for c, all := range rows {
		c.tell("[" + strings.Join(all, ",") + "]")
	}
}

func (c *client) tell(rows string) {
	c.number++
	if len(c.past) == 2*kept {
		c.past = append(make([][]byte, 0, 2*kept), c.past[kept:]...)
	}
	c.past = append(c.past, envelope(fmt.Sprintf(`[%d,0.0,false,%s]`, c.number, rows)))
	select {
	case c.news <- struct{}{}:
	default:
	}
}

func envelope(document string) []byte {
	inner, _ := json.Marshal(document)
	return []byte(`{"model_name":"llm","model_version":"1","RESPONSE":` + string(inner) + `}`)
}

func (e *engine) generate(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var outer struct{ REQUEST string }
	var m message
	if json.Unmarshal(body, &outer) != nil || json.Unmarshal([]byte(outer.REQUEST), &m) != nil {
		http.Error(w, `{"error":"no request"}`, 400)
		return
	}
	w.Header().Set("content-type", "application/json")
	switch m.Op {
	case "status":
		w.Write(envelope(`{"model_version":"1","architecture":"Fake","parameters":1,"dtype":"none","device":"cpu","context_window":4096,` +
			`"max_batch_size":4096,"running":0,"waiting":0,"kv_tokens_capacity":100000000,"kv_tokens_used":0,"weights_bytes":1,` +
			`"kv_bytes":1,"memory_bytes":1,"load_seconds":0.1,"tokens_total":0,"steps_total":0,"step_age_seconds":0.0}`))
	case "submit":
		e.Lock()
		c := e.clients[m.Instance]
		accepted := []string{}
		heard := c != nil && c.open && c.epoch == m.Epoch
		if heard {
			for _, s := range m.Sequences {
				prompt := bytes.Count(s.Prompt, []byte(",")) + 1
				e.running[s.ID] = &sequence{id: s.ID, tokens: max(1, s.Sampling.MaxTokens), prompt: prompt, channel: c}
				accepted = append(accepted, s.ID)
			}
		}
		e.Unlock()
		if !heard {
			w.Write(envelope(`{"code":"no_event_stream","message":"open events first"}`))
			return
		}
		ids, _ := json.Marshal(accepted)
		w.Write(envelope(`{"accepted":` + string(ids) + `,"refused":{}}`))
	case "cancel":
		e.Lock()
		for _, id := range m.IDs {
			delete(e.running, id)
		}
		e.Unlock()
		ids, _ := json.Marshal(m.IDs)
		w.Write(envelope(`{"cancelled":` + string(ids) + `}`))
	case "events":
		e.events(w, r, m)
	default:
		http.Error(w, `{"error":"unknown operation"}`, 400)
	}
}

// events resumes by number, as the engine does; a newer epoch takes over.
func (e *engine) events(w http.ResponseWriter, r *http.Request, m message) {
	e.Lock()
	c := e.clients[m.Instance]
	if c == nil {
		c = &client{news: make(chan struct{}, 1)}
		e.clients[m.Instance] = c
	}
	if m.Epoch <= c.epoch {
		e.Unlock()
		w.Write(envelope(`{"code":"stale_epoch","message":"a newer stream is open"}`))
		return
	}
	c.epoch, c.open = m.Epoch, true
	sent := m.After
	_, known := c.after(sent)
	if !known {
		sent = c.number
		for key, s := range e.running {
			if s.channel == c {
				delete(e.running, key)
			}
		}
	}
	e.Unlock()
	defer func() {
		e.Lock()
		defer e.Unlock()
		c.open = c.open && c.epoch != m.Epoch
	}()
	w.Header().Set("content-type", "text/event-stream")
	send := func(payload []byte) {
		w.Write([]byte("data: "))
		w.Write(payload)
		w.Write([]byte("\n\n"))
		w.(http.Flusher).Flush()
	}
	beat := func(lost bool) { send(envelope(fmt.Sprintf(`[%d,0.0,%t,[]]`, sent, lost))) }
	beat(!known)
	for {
		e.Lock()
		fresh, known := c.after(sent)
		current := c.epoch == m.Epoch
		e.Unlock()
		if !current || !known {
			return
		}
		for _, payload := range fresh {
			send(payload)
			sent++
		}
		select {
		case <-c.news:
		case <-time.After(100 * time.Millisecond):
			beat(false)
		case <-r.Context().Done():
			return
		}
	}
}

// openai answers as the gateway would, without one.
func (e *engine) openai(w http.ResponseWriter, r *http.Request) {
	var call struct {
		Stream    bool `json:"stream"`
		MaxTokens int  `json:"max_tokens"`
	}
	body, _ := io.ReadAll(r.Body)
	json.Unmarshal(body, &call)
	s := &sequence{tokens: max(1, call.MaxTokens), direct: make(chan string, max(1, call.MaxTokens))}
	e.Lock()
	e.direct++
	id := fmt.Sprintf("direct-%d", e.direct)
	e.running[id] = s
	e.Unlock()
	head := `{"id":"chatcmpl-d27e8e8c10b8001bbe14ca14","object":"chat.completion.chunk","created":1790000000,"model":"tiny","choices":[{"index":0,"delta":`
	if call.Stream {
		w.Header().Set("content-type", "text/event-stream; charset=utf-8")
		first := `{"role":"assistant","content":""}`
		for text := range s.direct {
			if first != "" {
				fmt.Fprintf(w, "data: %s%s,\"logprobs\":null,\"finish_reason\":null}]}\n\n", head, first)
				first = ""
			}
			fmt.Fprintf(w, "data: %s{\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n", head, text)
			w.(http.Flusher).Flush()
		}
		fmt.Fprintf(w, "data: %s{},\"logprobs\":null,\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n", head)
		return
	}
	text := ""
	for piece := range s.direct {
		text += piece
	}
	w.Header().Set("content-type", "application/json")
	fmt.Fprintf(w, `{"id":"chatcmpl-d27e8e8c10b8001bbe14ca14","object":"chat.completion","created":1790000000,"model":"tiny","choices":[{"index":0,`+
		`"message":{"role":"assistant","content":"%s","refusal":null},"logprobs":null,"finish_reason":"length"}],`+
		`"usage":{"prompt_tokens":9,"completion_tokens":%d,"total_tokens":%d}}`, text, s.tokens, s.tokens+9)
}

func upstream(arguments []string) {
	flags := flag.NewFlagSet("upstream", flag.ExitOnError)
	listen := flags.String("listen", "", "address")
	step := flags.Duration("step", 2*time.Millisecond, "time between the engine's steps")
	words := flags.String("words", " word", "the tokens, again and again, with | between them")
	check(flags.Parse(arguments))
	e := &engine{clients: map[string]*client{}, running: map[string]*sequence{}, words: strings.Split(*words, "|")}
	go func() {
		for range time.Tick(*step) {
			e.step()
		}
	}()
	fine := func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }
	http.HandleFunc("/v2/health/live", fine)
	http.HandleFunc("/v2/models/llm/ready", fine)
	http.HandleFunc("/v2/repository/models/llm/load", fine)
	http.HandleFunc("/v2/models/llm/generate", e.generate)
	http.HandleFunc("/v2/models/llm/generate_stream", e.generate)
	http.HandleFunc("/v1/chat/completions", e.openai)
	check(http.ListenAndServe(*listen, nil))
}
