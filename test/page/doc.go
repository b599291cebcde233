// Package page looks at the agent's status page as people do: in a browser, at the widths of a desk and of a phone, light and
// dark, with and without script, while a real agent deploys.
package page
