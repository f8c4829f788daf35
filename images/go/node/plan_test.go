package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func read(t *testing.T, text string) (plan, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plan")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return readPlan(path)
}

func TestAPlanIsReadInItsOrder(t *testing.T) {
	p, err := read(t, `# a comment
verbosity 2
tls ca crt key
gc-after-ready 60
etcd --data-dir=/d
wait https://127.0.0.1:6443/readyz 900
wait unix:///run/c.sock 300
kubelet --config=/k   # and another
ready node-1 300 /fifo kubesolo: kubernetes ready
`)
	if err != nil {
		t.Fatal(err)
	}
	if p.verbosity != 2 || p.gcAfterReady != 60 || len(p.steps) != 5 {
		t.Errorf("got %+v", p)
	}
	if got := p.steps[1].wait; got == nil || got.deadline != 900*time.Second || got.tls.key != "key" {
		t.Errorf("got %+v", got)
	}
	if got := p.steps[4].ready; got == nil || got.server != "https://127.0.0.1:6443" ||
		got.text != "kubesolo: kubernetes ready" || got.gc != 60 {
		t.Errorf("got %+v", got)
	}
}

func TestEveryLineIsCheckedBeforeAnythingStarts(t *testing.T) {
	for text, words := range map[string]string{
		"":                                "starts nothing",
		"etcd\netcd\n":                    "line 2: etcd is there twice",
		"kubelet\ncontainerd\n":           `line 2: "containerd" is neither`,
		"wait https://x 5\n":              "needs a tls line",
		"wait ftp://x 5\n":                "neither https",
		"wait unix:///s 0\n":              "takes URL SECONDS",
		"wait unix:///s NaN\n":            "takes URL SECONDS",
		"ready n 5\n":                     "needs a wait for https",
		"gc-after-ready 0\n":              "takes PERCENT",
		"verbosity 11\n":                  "takes LEVEL",
		"tls a b\n":                       "takes CA CERT KEY",
		"tls a b c\nwait https://x y z\n": "takes URL SECONDS",
	} {
		if _, err := read(t, text); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func balanced(changes func(*corev1.Service)) *corev1.Service {
	made := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
	}
	changes(made)
	return made
}

func TestWhichServicesGetTheNodesAddress(t *testing.T) {
	class := "somebody.else/theirs"
	ingress := func(addresses ...string) func(*corev1.Service) {
		return func(s *corev1.Service) {
			for _, address := range addresses {
				s.Status.LoadBalancer.Ingress = append(
					s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: address})
			}
		}
	}
	for name, test := range map[string]struct {
		service *corev1.Service
		wanted  bool
	}{
		"new":       {balanced(ingress()), true},
		"has it":    {balanced(ingress("10.0.0.1")), false},
		"another":   {balanced(ingress("10.0.0.2")), true},
		"two":       {balanced(ingress("10.0.0.1", "10.0.0.2")), true},
		"a class":   {balanced(func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class }), false},
		"node port": {balanced(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }), false},
		"on its way out": {balanced(func(s *corev1.Service) {
			now := metav1.Now()
			s.DeletionTimestamp = &now
		}), false},
	} {
		if got := wantsAddress(test.service, "10.0.0.1"); got != test.wanted {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestAServiceGetsTheAddress(t *testing.T) {
	service := balanced(func(*corev1.Service) {})
	client := fake.NewSimpleClientset(service)
	assign(context.Background(), client, service, "10.0.0.1")
	found, err := client.CoreV1().Services("default").Get(context.Background(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := found.Status.LoadBalancer.Ingress; len(got) != 1 || got[0].IP != "10.0.0.1" {
		t.Errorf("got %v", got)
	}
}

func TestAFatalMessageIsKeptAndItsStacksAreNot(t *testing.T) {
	made := &log{}
	for _, line := range []string{
		"I1201 10:00:00.0 1 x.go:1] all is well\n", "F1201 10:00:00.0 1 x.go:2] no disk\n",
		"goroutine 1 [running]:\nmain.main()\n",
	} {
		if n, err := made.Write([]byte(line)); n != len(line) || err != nil {
			t.Errorf("%q: %d, %v", line, n, err)
		}
	}
	if got := made.fatal(); !strings.Contains(got, "no disk") {
		t.Errorf("got %q", got)
	}
}

func TestOnlyThisBootsReportMakesANodeReady(t *testing.T) {
	report := func(boot, status string, at time.Time) []byte {
		return []byte(`{"status": {"nodeInfo": {"bootID": "` + boot + `"}, "conditions": [{"type": "Ready",
			"status": "` + status + `", "message": "m", "lastHeartbeatTime": "` + at.Format(time.RFC3339) + `"}]}}`)
	}
	now := time.Now().Add(2 * time.Second)
	if err := nodeReady(report("b", "True", now), "b"); err != nil {
		t.Error(err)
	}
	for name, body := range map[string][]byte{
		"another boot":    report("a", "True", now),
		"not ready":       report("b", "False", now),
		"an older report": report("b", "True", time.Now().Add(-time.Hour)),
		"none":            []byte(`{}`),
		"garbage":         []byte(`{`),
	} {
		if nodeReady(body, "b") == nil {
			t.Errorf("%s: it counts", name)
		}
	}
}
