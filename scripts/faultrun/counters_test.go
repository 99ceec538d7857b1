package main

import "testing"

func TestJudge(t *testing.T) {
	gone := func(node string) bool { return node == "n3" }
	for _, c := range []struct {
		name           string
		acked, unknown map[string]int64
		got            int64
		ok             bool
	}{
		{"all there", map[string]int64{"n1": 3, "n2": 4}, nil, 7, true},
		{"one lost", map[string]int64{"n1": 3, "n2": 4}, nil, 6, false},
		{"one too many", map[string]int64{"n1": 3}, nil, 4, false},
		{"an unknown one that happened", map[string]int64{"n1": 3}, map[string]int64{"n1": 1}, 4, true},
		{"an unknown one that did not", map[string]int64{"n1": 3}, map[string]int64{"n1": 1}, 3, true},
		{"an unknown one that happened twice", map[string]int64{"n1": 3}, map[string]int64{"n1": 1}, 5, false},
		{"lost with the disk of a node that is gone", map[string]int64{"n1": 3, "n3": 5}, nil, 3, true},
		{"sent before the node was gone", map[string]int64{"n1": 3, "n3": 5}, nil, 8, true},
		{"more than that", map[string]int64{"n1": 3, "n3": 5}, nil, 9, false},
		{"lost elsewhere", map[string]int64{"n1": 3, "n3": 5}, nil, 2, false},
	} {
		o := counted{acked: c.acked, unknown: c.unknown}
		if err := o.judge(c.got, gone); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
