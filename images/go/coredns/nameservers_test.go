package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const corefile = `. {
    bind 169.254.20.10
    forward . /PATH {
        policy sequential
    }
    reload 5s 0
}
`

func expanded(t *testing.T, resolvConf string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte(resolvConf), 0o600); err != nil {
		t.Fatal(err)
	}
	return string(expand([]byte(strings.ReplaceAll(corefile, "/PATH", path))))
}

func TestServersTakeTheFilesPlace(t *testing.T) {
	got := expanded(t, "search example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n")
	want := strings.ReplaceAll(corefile, "/PATH", "192.0.2.1 2001:db8::1")
	if got != want {
		t.Errorf("got %s", got)
	}
}

func TestItselfIsNoServer(t *testing.T) {
	got := expanded(t, "nameserver 169.254.20.10\nnameserver 192.0.2.1\nnameserver 192.0.2.1\n")
	if !strings.Contains(got, "forward . 192.0.2.1 {") {
		t.Errorf("got %s", got)
	}
}

func TestAtMostThreeServers(t *testing.T) {
	got := expanded(t, "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"+
		"nameserver 192.0.2.4\n")
	if !strings.Contains(got, "forward . 192.0.2.1 192.0.2.2 192.0.2.3 {") {
		t.Errorf("got %s", got)
	}
}

func TestWithoutAServerNothingIsForwarded(t *testing.T) {
	for _, text := range []string{"", "search example\n", "nameserver 169.254.20.10\n", "nameserver x\n"} {
		got := expanded(t, text)
		if strings.Contains(got, "forward") || strings.Contains(got, "policy") {
			t.Errorf("%q: got %s", text, got)
		}
		if !strings.Contains(got, "reload 5s 0\n}") {
			t.Errorf("%q: the rest is lost: %s", text, got)
		}
	}
	got := string(expand([]byte(strings.ReplaceAll(corefile, "/PATH", "/does/not/exist"))))
	if strings.Contains(got, "forward") {
		t.Errorf("got %s", got)
	}
}

func TestAFixedServerStays(t *testing.T) {
	fixed := strings.ReplaceAll(corefile, "/PATH", "192.0.2.9")
	if got := string(expand([]byte(fixed))); got != fixed {
		t.Errorf("got %s", got)
	}
}
