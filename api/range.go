package api

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// serveContent is http.ServeContent, save for parts without a byte. For those it says 206 with a Content-Range that ends before
// it starts, as in "bytes 9-8/9", which no client can read. The last 0 bytes are a part that there is not (RFC 9110, section
// 14.1.2), and where there are no bytes at all, all of them are sent.
func serveContent(w http.ResponseWriter, r *http.Request, content io.ReadSeeker) {
	if list, some := strings.CutPrefix(r.Header.Get("Range"), "bytes="); some {
		size, err := content.Seek(0, io.SeekEnd) // an error comes again below
		specs := strings.Split(list, ",")
		for i, spec := range specs {
			digits, last := strings.CutPrefix(strings.TrimSpace(spec), "-")
			if n, bad := strconv.ParseInt(strings.TrimSpace(digits), 10, 64); last && bad == nil && n == 0 {
				specs[i] = fmt.Sprintf("%d-", size)
			}
		}
		r = r.Clone(r.Context())
		r.Header.Set("Range", "bytes="+strings.Join(specs, ","))
		if err == nil && size == 0 {
			r.Header.Del("Range")
		}
	}
	http.ServeContent(w, r, "", time.Time{}, content)
}
