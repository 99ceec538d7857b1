package main

import (
	"net/http"
	"sync"

	"github.com/nearsql/nearsql/scripts/localcluster"
	"github.com/nearsql/nearsql/sqlnode/client"
)

// member is a node with a client of its own.
type member struct {
	*localcluster.Node
	client *client.Client
}

// roster is the nodes of the cluster as they are now: faults and users know places, and a node that is gone for good is replaced in its place.
type roster struct {
	size int // of places

	mu struct {
		sync.Mutex
		places []*member
		spares []*member
		gone   []*member
	}
}

func newRoster(c *localcluster.Cluster, size int) (*roster, error) {
	token, err := c.Key()
	if err != nil {
		return nil, err
	}
	r := &roster{size: size}
	for i, n := range c.Nodes {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DisableCompression = true
		cl, err := client.New(n.URL(), client.Options{Token: token, HTTP: &http.Client{Transport: t}})
		if err != nil {
			return nil, err
		}
		m := &member{n, cl}
		if i < size {
			r.mu.places = append(r.mu.places, m)
		} else {
			r.mu.spares = append(r.mu.spares, m)
		}
	}
	return r, nil
}

// at is who is in a place.
func (r *roster) at(place int) *member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.places[place]
}

// all are those in all places.
func (r *roster) all() []*member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*member(nil), r.mu.places...)
}

// place is where a node is; -1 if it is in none.
func (r *roster) place(id string) int {
	for i, m := range r.all() {
		if m.ID == id {
			return i
		}
	}
	return -1
}

// spare is a node that was never started; nil if there is none left.
func (r *roster) spare() *member {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.mu.spares) == 0 {
		return nil
	}
	m := r.mu.spares[0]
	r.mu.spares = r.mu.spares[1:]
	return m
}

// replace puts a node in a place, for good.
func (r *roster) replace(place int, by *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.gone = append(r.mu.gone, r.mu.places[place])
	r.mu.places[place] = by
}

// removed says whether a node was replaced.
func (r *roster) removed(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.mu.gone {
		if m.ID == id {
			return true
		}
	}
	return false
}
