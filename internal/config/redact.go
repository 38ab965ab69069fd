package config

import (
	"net/url"
	"regexp"
	"strings"
)

// hidden stands for what must not be read.
const hidden = "xxxxx"

// redact hides passwords and tokens in a list of URLs.
func redact(list string) string {
	parts := splitList(list)
	for i, part := range parts {
		if u, err := url.Parse(part); err == nil && u.User != nil {
			if _, has := u.User.Password(); !has {
				u.User = url.User(hidden) // a token
			}
			parts[i] = u.Redacted()
		}
	}
	return strings.Join(parts, ",")
}

// passwordInQuery finds those that drivers of databases take from there: password, sslpassword.
var passwordInQuery = regexp.MustCompile(`(?i)([?&][a-z]*password=)[^&]*`)

// redactURL hides the password in the URL of a database. It does without url.Parse, which knows neither several hosts with ports
// nor passwords that somebody forgot to escape: those must not be shown either.
func redactURL(text string) string {
	scheme, rest, is := strings.Cut(text, "://")
	if !is {
		return text
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		user, _, has := strings.Cut(rest[:at], ":")
		if has {
			user += ":" + hidden
		}
		rest = user + rest[at:]
	}
	return scheme + "://" + passwordInQuery.ReplaceAllString(rest, "${1}"+hidden)
}
