// Parts of the gateway's benches that must not be what is measured: a scripted Triton, a proxy that only copies, and the clients.
package main

import (
	"fmt"
	"os"
)

func main() {
	commands := map[string]func([]string){"upstream": upstream, "proxy": proxy, "load": load}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: bench upstream|proxy|load [flags]; -h after a word lists its flags")
		os.Exit(2)
	}
	commands[os.Args[1]](os.Args[2:])
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
