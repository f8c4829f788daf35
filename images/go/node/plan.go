package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// A plan is a file of lines, worked off in order; words are separated by spaces, # starts a comment:
//
//	NAME ARG...                a component starts; etcd holds the next line back until it serves
//	tls CA CERT KEY            what requests of the following lines trust and show
//	wait URL SECONDS           until https://... answers 200, or unix://PATH accepts; else it failed
//	ready NODE SECONDS [FILE TEXT...]
//	                           when the kubelet that this plan started has reported the node Ready,
//	                           TEXT is appended to FILE; holds nothing back; the server of the https
//	                           wait before it is asked
//	gc-after-ready PERCENT     then the heap may grow by that much between collections, without a
//	                           limit
//	verbosity LEVEL            how much the components say, 0 to 10
type step struct {
	line      int
	component component
	args      []string
	wait      *target
	ready     *announcement
	// Of a component whose arguments have been read.
	run func(context.Context) error
}

type tlsFiles struct{ ca, cert, key string }

type target struct {
	url      *url.URL
	deadline time.Duration
	tls      tlsFiles
}

type announcement struct {
	server   string
	node     string
	deadline time.Duration
	tls      tlsFiles
	file     string
	text     string
	gc       int
}

type plan struct {
	steps []step
	// Of klog.
	verbosity int
	// Percent, or 0 to leave what the environment says.
	gcAfterReady int
}

// readPlan checks every line before anything starts.
func readPlan(path string) (plan, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return plan{}, fmt.Errorf("the plan cannot be read: %v", err)
	}
	result, files, names, server := plan{}, tlsFiles{}, map[string]bool{}, ""
	for i, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(strings.SplitN(line, "#", 2)[0])
		if len(words) == 0 {
			continue
		}
		wrong := func(format string, args ...any) (plan, error) {
			return plan{}, fmt.Errorf("plan %s, line %d: %s", path, i+1, fmt.Sprintf(format, args...))
		}
		name, args := words[0], words[1:]
		next := step{line: i + 1, args: args}
		switch name {
		case "tls":
			if len(args) != 3 {
				return wrong("tls takes CA CERT KEY")
			}
			files = tlsFiles{args[0], args[1], args[2]}
			continue
		case "verbosity":
			level, err := strconv.Atoi(strings.Join(args, " "))
			if err != nil || level < 0 || level > 10 {
				return wrong("verbosity takes LEVEL, 0 to 10")
			}
			result.verbosity = level
			continue
		case "gc-after-ready":
			percent, err := strconv.Atoi(strings.Join(args, " "))
			if err != nil || percent < 1 {
				return wrong("gc-after-ready takes PERCENT")
			}
			result.gcAfterReady = percent
			continue
		case "wait":
			if len(args) != 2 || seconds(args[1]) == 0 {
				return wrong("wait takes URL SECONDS")
			}
			address, err := url.Parse(args[0])
			if err != nil || (address.Scheme != "https" && address.Scheme != "unix") {
				return wrong("%q is neither https://... nor unix://PATH", args[0])
			}
			if address.Scheme == "https" && files.ca == "" {
				return wrong("wait for https needs a tls line before it")
			}
			if address.Scheme == "https" {
				server = "https://" + address.Host
			}
			next.wait = &target{address, seconds(args[1]), files}
		case "ready":
			if len(args) < 2 || len(args) == 3 || seconds(args[1]) == 0 {
				return wrong("ready takes NODE SECONDS [FILE TEXT...]")
			}
			if server == "" {
				return wrong("ready needs a wait for https before it")
			}
			next.ready = &announcement{
				server: server, node: args[0], deadline: seconds(args[1]), tls: files,
			}
			if len(args) > 3 {
				next.ready.file, next.ready.text = args[2], strings.Join(args[3:], " ")
			}
		default:
			found, ok := find(name)
			if !ok {
				return wrong("%q is neither a component nor an instruction", name)
			}
			if names[name] {
				return wrong("%s is there twice", name)
			}
			next.component, names[name] = found, true
		}
		result.steps = append(result.steps, next)
	}
	for _, s := range result.steps {
		if s.ready != nil {
			s.ready.gc = result.gcAfterReady
		}
	}
	if len(names) == 0 {
		return plan{}, fmt.Errorf("plan %s starts nothing", path)
	}
	return result, nil
}

// seconds is zero for what is not a positive number of seconds.
func seconds(text string) time.Duration {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || !(value > 0 && value <= 86400) {
		return 0
	}
	return time.Duration(value * float64(time.Second))
}
