package main

import (
	"fmt"

	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/routes"
	aggregator "k8s.io/kube-aggregator/pkg/apiserver"
	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/cached"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/validation/spec"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// describeLater has the document of OpenAPI v2 built when it is first asked for. Building it costs as much
// as a tenth of the API server's start; the documents of v3, which kubectl asks for, are built as ever.
// The server must have been made with SkipOpenAPIInstallation.
func describeLater(config apiserver.CompletedConfig, server *aggregator.APIAggregator) error {
	own, ok := server.GenericAPIServer.NextDelegate().(*genericapiserver.GenericAPIServer)
	if !ok {
		return fmt.Errorf("the aggregator's delegate is a %T", server.GenericAPIServer.NextDelegate())
	}
	generic := config.KubeAPIs.ControlPlane.Generic
	services := own.Handler.GoRestfulContainer.RegisteredWebServices()
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
	own.OpenAPIVersionedService.RegisterOpenAPIVersionedService("/openapi/v2", own.Handler.NonGoRestfulMux)
	own.OpenAPIV3VersionedService = routes.OpenAPI{V3Config: generic.OpenAPIV3Config}.InstallV3(
		own.Handler.GoRestfulContainer, own.Handler.NonGoRestfulMux)
	return nil
}
