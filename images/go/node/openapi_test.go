package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/spec3"
)

const list = "/openapi/v3"

func asking(path, name string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	return r.WithContext(request.WithUser(r.Context(), &user.DefaultInfo{Name: name}))
}

func bodyOf(t *testing.T, handler http.Handler, r *http.Request) string {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("%s: %d %v", r.URL.Path, w.Code, err)
	}
	return string(body)
}

func TestDocumentsAreBuiltWhenSomebodyAsks(t *testing.T) {
	built := 0
	documents := newOpenAPI()
	documents.build = func() *handler3.OpenAPIService {
		built++
		service := handler3.NewOpenAPIService()
		service.UpdateGroupVersion("apis/apps/v1", &spec3.OpenAPI{})
		return service
	}
	// What the aggregator was last shown is what others are shown.
	shown := bodyOf(t, http.HandlerFunc(documents.list), asking(list, "system:aggregator"))
	front := documents.waitFor(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, shown)
	}))
	if shown != `{"paths":{}}` || built != 0 {
		t.Fatalf("at first the aggregator was shown %s, built %d", shown, built)
	}
	// The API server's own client and other paths are not held back, and build nothing.
	bodyOf(t, front, asking(list, user.APIServerUser))
	bodyOf(t, front, asking("/openapi/v2", "admin"))
	select {
	case <-documents.wanted:
		t.Fatal("the documents are wanted")
	default:
	}
	answer := make(chan string)
	go func() { answer <- bodyOf(t, front, asking(list, "admin")) }()
	select {
	case body := <-answer:
		t.Fatalf("answered %s before there was a document", body)
	case <-documents.wanted:
	}
	shown = bodyOf(t, http.HandlerFunc(documents.list), asking(list, "system:aggregator"))
	select {
	case body := <-answer:
		if body != shown || built != 1 {
			t.Fatalf("answered %s, shown %s, built %d", body, shown, built)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("not answered")
	}
}
