package main

import (
	"flag"
	"net/http"
	"net/http/httputil"
	"net/url"
)

// proxy copies every request to the upstream and every answer back, each piece at once. It does nothing else.
func proxy(arguments []string) {
	flags := flag.NewFlagSet("proxy", flag.ExitOnError)
	listen := flags.String("listen", "", "address")
	to := flags.String("to", "", "URL of the upstream")
	check(flags.Parse(arguments))
	target, err := url.Parse(*to)
	check(err)
	copier := httputil.NewSingleHostReverseProxy(target)
	copier.FlushInterval = -1
	copier.Transport = &http.Transport{MaxIdleConnsPerHost: 1000}
	check(http.ListenAndServe(*listen, copier))
}
