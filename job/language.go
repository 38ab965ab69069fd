package job

import "strings"

// languages are the codes that Whisper models know: ISO 639-1, but haw and yue, which have no code there, and jw for Javanese.
const languages = " af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu " +
	"hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si sk " +
	"sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh "

// Validate checks what no later stage can: a job with such a parameter would fail on every worker. The error is of class INPUT
// and code BAD_PARAMETER. Empty fields stand for their defaults.
func (p Params) Validate() error {
	p = p.WithDefaults()
	if p.Language != "auto" && (strings.Contains(p.Language, " ") || !strings.Contains(languages, " "+p.Language+" ")) {
		return Errorf(Input, "BAD_PARAMETER", "%q is not a language that Whisper knows: give an ISO 639-1 code such as de, or auto",
			p.Language)
	}
	if p.Task != Transcribe && p.Task != Translate {
		return Errorf(Input, "BAD_PARAMETER", "task %q is not known: choose transcribe or translate", p.Task)
	}
	if p.Speakers < 0 || p.Speakers > MaxSpeakers {
		return Errorf(Input, "BAD_PARAMETER", "%d speakers cannot be told apart: give 1 to %d, or none to have them counted",
			p.Speakers, MaxSpeakers)
	}
	return nil
}
