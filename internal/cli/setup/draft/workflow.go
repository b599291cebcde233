package draft

import (
	"fmt"
	"strings"
)

// Other people's actions, pinned by commit as in examples/; a test holds the two together.
const (
	useCheckout = "actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8 # v5.0.0"
	useNode     = "actions/setup-node@a0853c24544627f65ddf259abe73b1d18a591444 # v5.0.0"
	useGo       = "actions/setup-go@44694675825211faa026b3c33043df3e48a5fa00 # v6.0.0"
	usePython   = "actions/setup-python@e797f83bcb11b83ae66e0230d6156d7c80228e7c # v6.0.0"
	usePHP      = "shivammathur/setup-php@bf6b4fbd49ca58e4608c9c89fba0b8d90bd2a39f # 2.35.5"
	useTowline  = "towline/towline@v1"
)

// Workflow is the text of a workflow that deploys what is pushed to a branch.
func Workflow(f Facts) string {
	steps, inputs := f.Project.steps(f.App)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# A push to %s is packed and deployed. Written by `towline init`; change what you like.", f.Branch)
	line("#")
	line("# Secrets of the repository, under \"Secrets and variables\", \"Actions\":")
	line("#   TOWLINE_SIGNING_KEY                        the private half of the key pair")
	if Remote(f.Bucket) {
		line("#   AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY   CI's own key for the bucket, not the server's")
	}
	line("name: Deploy")
	line("")
	line("on:")
	line("  push:")
	line("    branches: [%s]", YAML(f.Branch))
	line("")
	line("permissions:")
	line("  contents: read        # checkout")
	line("  deployments: write    # the deployment that GitHub shows")
	line("")
	line("# One at a time, and none that waits is dropped.")
	line("concurrency: {group: deploy-%s, queue: max}", f.Environment)
	line("")
	line("jobs:")
	line("  deploy:")
	line("    runs-on: ubuntu-latest")
	line("    timeout-minutes: 30")
	line("    steps:")
	line("      - uses: %s", useCheckout)
	line("        with: {persist-credentials: false}")
	line("")
	b.WriteString(indent(steps, 6))
	line("      # v1 moves with every release. Pin it as the others are: towline/towline@<commit of a release> # v1.2.3")
	line("      - uses: %s", useTowline)
	line("        with:")
	line("          app: %s", YAML(f.App))
	b.WriteString(indent(inputs, 10))
	line("          bucket: %s", YAML(f.Bucket))
	if f.Prefix != "" {
		line("          prefix: %s", YAML(f.Prefix))
	}
	if f.Environment != "production" {
		line("          environment: %s", YAML(f.Environment))
	}
	if f.Servers != "" {
		line("          # The server is told, and the job shows what it does.")
		line("          servers: %s", YAML(f.Servers))
	} else {
		line("          # The server finds the release by itself within 30 seconds, and the job waits for its receipt.")
		line("          expect-servers: %s", YAML(f.Server))
	}
	line("          signing-key: ${{ secrets.TOWLINE_SIGNING_KEY }}")
	if Remote(f.Bucket) {
		line("        env:")
		line("          AWS_ACCESS_KEY_ID: ${{ secrets.AWS_ACCESS_KEY_ID }}")
		line("          AWS_SECRET_ACCESS_KEY: ${{ secrets.AWS_SECRET_ACCESS_KEY }}")
	}
	return b.String()
}

// steps are what makes and tests the app, and the inputs of the action that say what is packed.
func (p Project) steps(app string) (steps, inputs string) {
	switch p.Kind {
	case Node:
		install, version := "npm ci", "version.js"
		if !p.locked {
			install = "npm install    # with a package-lock.json in the repository, npm ci"
		}
		if p.module {
			version = "version.json"
		}
		return `- uses: ` + useNode + `
  with: {node-version: 24}    # the server's

- run: ` + install + `
- run: npm run build --if-present
- run: npm test --if-present
- run: npm prune --omit=dev --no-audit --no-fund    # what only tests and builds need stays here

`, `path: .
exclude: .github/**
version-file: ` + version + `    # which release this is, for the app to read: hash, msg and date
`
	case Go:
		cache := ""
		if !p.locked {
			cache = "    cache: false    # nothing to keep as long as there is no go.sum\n"
		}
		return `- uses: ` + useGo + `
  with:
    go-version-file: go.mod
` + cache + `
- run: go vet ./... && go test ./...

# Static, so that it does not matter which libc the server has; -trimpath, so that the same code gives the same bytes.
- run: go build -trimpath -ldflags='-s -w' -o ` + "dist/" + app + " " + p.main + `
  env: {CGO_ENABLED: '0'}

`, `path: dist                    # the program alone, not the sources
version-file: version.json    # beside it: hash, msg and date, for the app to read
`
	case Python:
		test := ""
		if p.tests {
			test = `
- run: python3 -m unittest
  env: {PYTHONPATH: vendor, PYTHONDONTWRITEBYTECODE: '1'}
`
		}
		return `# The server's version: wheels with C code fit one minor version. Debian 12 has 3.11, Ubuntu 24.04 has 3.12.
- uses: ` + usePython + `
  with: {python-version: '3.11'}

# Beside the app; on the server it is found by PYTHONPATH=vendor. --no-compile: compiled files hold times, which would make
# every file of every release look changed.
- run: |
    python3 -m pip install --target vendor ` + p.main + ` --only-binary :all: --no-compile
` + test + `
`, `path: .
exclude: |
  .github/**
  vendor/bin/**
  **/__pycache__/**
version-file: version.json    # which release this is, for the app to read: hash, msg and date
`
	case PHP:
		return `- uses: ` + usePHP + `
  with:
    php-version: '8.2'    # the server's: Debian 12 has 8.2, Ubuntu 24.04 has 8.3
    tools: composer:v2
    coverage: none

- run: find . -name '*.php' -not -path './vendor/*' -print0 | xargs -0 -r -n 1 php -l

- run: composer install --no-dev --no-interaction --no-progress --prefer-dist --optimize-autoloader

`, `path: .
exclude: .github/**
version-file: version.json    # which release this is, for the app to read: hash, msg and date
`
	case Static:
		make := ""
		if p.command != "" {
			make = "- run: " + p.command + "\n\n"
		}
		exclude := ""
		if p.path == "." {
			exclude = "exclude: .github/**\n"
		}
		return make, `path: ` + p.path + "\n" + exclude + `version-file: version.json    # a health check can look for the commit in it
`
	}
	return `# Here, what tests and makes the app. All that then lies in path is packed, for example:
# - run: make test dist

`, `path: .                       # or the directory with what was made
exclude: .github/**
version-file: version.json    # which release this is, for the app to read: hash, msg and date
`
}

// indent puts n spaces before every line that is not empty.
func indent(text string, n int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			b.WriteString(strings.Repeat(" ", n))
		}
		b.WriteString(line)
	}
	return b.String()
}
