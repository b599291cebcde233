# The image of the action. No USER and no WORKDIR: the runner's workspace and command files belong to root.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY internal internal
RUN CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /towline-action ./cmd/towline-action

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /towline-action /towline-action
ENTRYPOINT ["/towline-action"]
