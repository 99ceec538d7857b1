// Command gen writes library.sql, the dump of the sample database, to standard
// output. It always writes the same bytes:
//
//	go run ./scripts/sample/gen > scripts/sample/library.sql
package main

import (
	"fmt"
	"os"

	"github.com/nearsql/nearsql/scripts/sample/library"
)

func main() {
	if err := library.Write(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
