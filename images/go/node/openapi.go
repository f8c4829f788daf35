package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	aggregator "k8s.io/kube-aggregator/pkg/apiserver"
	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/cached"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/validation/spec"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// How long who asks waits for documents: less than the minute that a request has.
const documentsLimit = 50 * time.Second

// openAPI keeps the documents of the API out of its server's start, of which those of either version would
// take a tenth. That of v2 is built when it is first asked for, those of v3 when the node is Ready, or when
// they are asked for before.
//
// The aggregator asks its delegate for the list of v3's documents, when it is made and once a second from
// then on, and shows others what it has. It is shown an empty list until then. Who asks meanwhile waits, but
// for the API server itself, which asks every few seconds, for MutatingAdmissionPolicies.
type openAPI struct {
	wanted, shown       chan struct{}
	wantOnce, shownOnce sync.Once
	build               func() *handler3.OpenAPIService
}

func newOpenAPI() *openAPI {
	return &openAPI{wanted: make(chan struct{}), shown: make(chan struct{})}
}

func (o *openAPI) want() { o.wantOnce.Do(func() { close(o.wanted) }) }

// waitFor holds a request for a document of v3 back until there are any.
func (o *openAPI) waitFor(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asks := r.URL.Path == "/openapi/v3" || strings.HasPrefix(r.URL.Path, "/openapi/v3/")
		if who, ok := request.UserFrom(r.Context()); asks && !(ok && who.GetName() == user.APIServerUser) {
			o.want()
			select {
			case <-o.shown:
			case <-r.Context().Done():
			case <-time.After(documentsLimit):
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (o *openAPI) list(w http.ResponseWriter, r *http.Request) {
	select {
	case <-o.wanted:
		o.build().HandleDiscovery(w, r)
		o.shownOnce.Do(func() { close(o.shown) })
	default:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"paths":{}}`)
	}
}

// before has the API server's requests for documents wait. The aggregator's configuration is to be completed
// afterwards.
func (o *openAPI) before(config *apiserver.Config) {
	config.KubeAPIs.ControlPlane.Generic.SkipOpenAPIInstallation = true
	generic := config.Aggregator.GenericConfig
	chain := generic.BuildHandlerChainFunc
	generic.BuildHandlerChainFunc = func(inner http.Handler, c *genericapiserver.Config) http.Handler {
		return chain(o.waitFor(inner), c)
	}
}

// install has the documents served by a server that was made with the configuration that before has changed.
func (o *openAPI) install(config apiserver.CompletedConfig, server *aggregator.APIAggregator) error {
	own, ok := server.GenericAPIServer.NextDelegate().(*genericapiserver.GenericAPIServer)
	if !ok {
		return fmt.Errorf("the aggregator's delegate is a %T", server.GenericAPIServer.NextDelegate())
	}
	generic := config.KubeAPIs.ControlPlane.Generic
	container, routed := own.Handler.GoRestfulContainer, own.Handler.NonGoRestfulMux
	services := container.RegisteredWebServices()
	document := cached.Once(cached.Func(func() (*spec.Swagger, string, error) {
		made, err := builder.BuildOpenAPISpecFromRoutes(
			restfuladapter.AdaptWebServices(services), generic.OpenAPIConfig)
		if err != nil {
			return nil, "", err
		}
		made.Definitions = handler.PruneDefaults(made.Definitions)
		// It never changes as long as the process lives.
		return made, "built", nil
	}))
	own.OpenAPIVersionedService = handler.NewOpenAPIServiceLazy(document)
	own.OpenAPIVersionedService.RegisterOpenAPIVersionedService("/openapi/v2", routed)
	o.build = sync.OnceValue(func() *handler3.OpenAPIService {
		// Its own routes are not those that are asked for.
		return routes.OpenAPI{V3Config: generic.OpenAPIV3Config}.InstallV3(
			container, mux.NewPathRecorderMux("openapi"))
	})
	go func() {
		<-announced
		o.want()
	}()
	routed.Handle("/openapi/v3", http.HandlerFunc(o.list))
	routed.HandlePrefix("/openapi/v3/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.build().HandleGroupVersion(w, r)
	}))
	return nil
}
