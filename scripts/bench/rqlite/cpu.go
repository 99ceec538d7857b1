package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc/PID/stat.
const tick = time.Second / 100

// cost is how much CPU time the nodes of a system took for how much work. It says more than rates where other work is on the machine.
type cost struct {
	cpu  time.Duration
	work float64
	ok   bool
}

// measured is a contender whose nodes' CPU time is added up.
func (c *cost) measured(s system, of contender) contender {
	c.ok = true
	run := of.run
	of.run = func(d time.Duration) (float64, error) {
		before, ok := cpuTime(s)
		began := time.Now()
		rate, err := run(d)
		took := time.Since(began)
		after, ok2 := cpuTime(s)
		c.ok = c.ok && ok && ok2 && err == nil
		c.cpu += after - before
		c.work += rate * took.Seconds()
		return rate, err
	}
	return of
}

// each is the CPU time of one piece of work; not ok if it is not known.
func (c *cost) each() (_ time.Duration, ok bool) {
	if !c.ok || c.cpu <= 0 || c.work <= 0 {
		return 0, false
	}
	return time.Duration(float64(c.cpu) / c.work), true
}

// cpuTime is what the nodes of a system have taken so far, user and system; not ok where there is no /proc.
func cpuTime(s system) (sum time.Duration, ok bool) {
	for n := range s.nodes() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process(n).Pid()))
		if err != nil {
			return 0, false
		}
		d, ok := parseStat(string(b))
		if !ok {
			return 0, false
		}
		sum += d
	}
	return sum, true
}

// parseStat reads utime and stime, fields 14 and 15. The name, field 2, is in parentheses and may have anything in it.
func parseStat(line string) (time.Duration, bool) {
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 13 {
		return 0, false
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, err == nil && err2 == nil
}
