package job

import (
	"errors"
	"testing"
)

func TestValidateParams(t *testing.T) {
	for _, p := range []Params{
		{}, {Language: "auto"}, {Language: "af"}, {Language: "zh"}, {Language: "yue"}, {Language: "de", Task: Translate},
	} {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for _, p := range []Params{
		{Language: "klingon"}, {Language: "e"}, {Language: "DE"}, {Language: " "}, {Language: "de en"}, {Task: "summarize"},
	} {
		var e *Error
		if err := p.Validate(); !errors.As(err, &e) || e.Class != Input || e.Code != "BAD_PARAMETER" {
			t.Errorf("%+v: %v, want BAD_PARAMETER", p, err)
		}
	}
}
