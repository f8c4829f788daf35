package main

import (
	"bytes"
	goflag "flag"
	"os"
	"strconv"
	"sync"

	"k8s.io/klog/v2"
)

// log is where klog writes: standard error, but for the stacks of every goroutine that follow a fatal
// message, whose words it keeps.
type log struct {
	lock sync.Mutex
	last string
}

func (l *log) Write(line []byte) (int, error) {
	if bytes.HasPrefix(line, []byte("goroutine ")) {
		return len(line), nil
	}
	if len(line) > 1 && line[0] == 'F' && line[1] >= '0' && line[1] <= '9' {
		l.lock.Lock()
		l.last = string(line)
		l.lock.Unlock()
	}
	return os.Stderr.Write(line)
}

// fatal is the last fatal message.
func (l *log) fatal() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.last
}

// startLog sets klog up for every component of this process.
func startLog(verbosity int) *log {
	flags := goflag.NewFlagSet("klog", goflag.PanicOnError)
	klog.InitFlags(flags)
	for name, value := range map[string]string{
		"logtostderr": "false", "one_output": "true", "stderrthreshold": "FATAL",
		"alsologtostderr": "false", "v": strconv.Itoa(verbosity),
	} {
		if err := flags.Set(name, value); err != nil {
			panic(err)
		}
	}
	made := &log{}
	klog.SetOutput(made)
	return made
}
