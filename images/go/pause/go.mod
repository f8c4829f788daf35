module kubesolo.io/pause

go 1.26
