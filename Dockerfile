# One static file, no shell, not root. See deploy/compose.yaml for how it runs.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X dingrecall/cmd/internal/cli.releaseVersion=${VERSION}" -o /recall ./cmd/recall

FROM scratch
# To check the service's certificate, and to know time zones.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /usr/local/go/lib/time/zoneinfo.zip /usr/local/go/lib/time/zoneinfo.zip
ENV ZONEINFO=/usr/local/go/lib/time/zoneinfo.zip
COPY --from=build /recall /recall
USER 65532:65532
# The admin address: inside a container nobody reaches 127.0.0.1, and any other address needs RECALL_ADMIN_TOKEN.
# There is no HEALTHCHECK, since nothing in here could run it: probe /healthz and /readyz from outside.
EXPOSE 8080
ENTRYPOINT ["/recall"]
CMD ["worker"]
