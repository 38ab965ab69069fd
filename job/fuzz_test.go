package job

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// FuzzParseID: what is taken for an id is one, however it was written, and can stand in a subject, a path and a file's name.
func FuzzParseID(f *testing.F) {
	id := string(NewID())
	for _, seed := range []string{
		id, strings.ToLower(id), id[:25], id + "0", "", "../../../../../etc/passwd00", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
		"01J00000000000000000000IL0", "01J0000000000000000000000\x00", "01J000000000000000000000ß", "01J00000000.>*000000000000",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseID(text)
		if err != nil {
			if id != "" {
				t.Errorf("%q is no id, and %q", text, id)
			}
			return
		}
		if len(id) != 26 || !strings.EqualFold(string(id), text) || strings.Trim(string(id), "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
			t.Errorf("%q is the id %q", text, id)
		}
		if again, err := ParseID(string(id)); again != id || err != nil {
			t.Errorf("%q is read as %q, %v", id, again, err)
		}
	})
}

// FuzzParams: parameters that are taken stay so, and the same, with their defaults and after a way through JSON.
func FuzzParams(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `{"language":"de","task":"translate","words":true}`, `{"language":"  "}`, `{"language":"de en"}`, `{"task":""}`,
		`{"model":"\ud800","prompt":"\u0000"}`, `{"chunk_seconds":1e308,"silence":"keep"}`, `{"LANGUAGE":"fr","language":"xx"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p Params
		if json.Unmarshal(data, &p) != nil {
			return
		}
		if err := p.Validate(); err != nil {
			if e := AsError(err); e.Class != Input || e.Code != "BAD_PARAMETER" || e.Message == "" {
				t.Errorf("%#v", err)
			}
			return
		}
		whole := p.WithDefaults()
		if whole.Validate() != nil || whole.WithDefaults() != whole || whole.Model == "" || whole.Language == "" || whole.Task == "" {
			t.Errorf("%+v has the defaults %+v, %v", p, whole, whole.Validate())
		}
		if strings.ToLower(whole.Language) != whole.Language || strings.ContainsAny(whole.Language, " \t") {
			t.Errorf("language %q was taken", whole.Language)
		}
		text, err := json.Marshal(whole)
		var again Params
		if err != nil || json.Unmarshal(text, &again) != nil || !reflect.DeepEqual(again, whole) {
			t.Errorf("%+v is written %s, %v, and read %+v", whole, text, err, again)
		}
	})
}
