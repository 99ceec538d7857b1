package localcluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports below those that systems choose for outgoing connections, so that a node that is down keeps its own.
const (
	portMin = 20000
	portMax = 30000
)

// FreePorts finds ports on loopback that nobody listens at.
func FreePorts(n int) ([]string, error) {
	var addrs []string
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for tries := 0; len(addrs) < n; tries++ {
		if tries > 100*n {
			return nil, errors.New("there are no free ports")
		}
		addr := fmt.Sprintf("127.0.0.1:%d", portMin+rand.IntN(portMax-portMin))
		if l, err := net.Listen("tcp", addr); err == nil {
			held = append(held, l)
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}
