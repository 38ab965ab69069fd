package main

import (
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"steno/internal/config"
	"steno/internal/proc"
	"steno/internal/telemetry"
)

// app is what every command starts from.
type app struct {
	std     streams
	env     []string
	cfg     config.Config
	origins config.Origins
	log     *slog.Logger
	sandbox *proc.Sandbox
	reg     *prometheus.Registry
}

// daemon marks commands that run until they are stopped, and so log at their configured level from the start.
const daemon = "daemon"

// common are the settings that every command's help shows; the others work as flags too, and `steno config` lists them.
var common = map[string]bool{"data": true, "models": true, "log-level": true}

func newRoot(std streams, env []string) *cobra.Command {
	a := &app{std: std, env: env}
	root := &cobra.Command{
		Use:   "steno",
		Short: "Turn recorded speech into an exact transcript with times",
		Long: "steno transcribes recorded speech with Whisper models on this machine: files directly, or jobs through a queue.\n\n" +
			"Settings come from flags, STENO_* variables and a YAML file, in this order; `steno config` lists them all.",
		Example: "  steno transcribe interview.mp3\n  steno transcribe talks/ -f srt,txt -o out\n" +
			"  steno up\n  steno submit --wait lecture.m4a",
		Version:       version,
		SilenceErrors: true, SilenceUsage: true,
		// Cobra's own check of an unknown command makes no usage error.
		Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.load(cmd) },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef("%w: see %s --help", err, cmd.CommandPath()) })
	flags := root.PersistentFlags()
	flags.String("config", "", "YAML `file` with settings")
	for _, k := range config.Keys() {
		name := strings.ReplaceAll(k.Name, "_", "-")
		if k.Secret {
			continue
		}
		flags.String(name, k.Default, k.Doc)
		if !common[name] {
			_ = flags.MarkHidden(name) // only fails for a flag that is not there
		}
	}
	root.AddCommand(
		a.transcribeCmd(), a.upCmd(), a.submitCmd(), a.statusCmd(), a.watchCmd(), a.cancelCmd(), a.deadCmd(), a.workerCmd(),
		a.gatewayCmd(), a.userCmd(), a.modelsCmd(), a.dbCmd(), a.doctorCmd(), a.configCmd(), a.benchCmd(), a.engineCmd(), a.voicesCmd(),
		a.nodeCmd(), a.nodesCmd(), a.cardsCmd(),
	)
	return root
}

// load reads the settings before any command runs.
func (a *app) load(cmd *cobra.Command) (err error) {
	set := map[string]string{}
	cmd.Root().PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			set[f.Name] = f.Value.String()
		}
	})
	file := set["config"]
	delete(set, "config")
	if a.cfg, a.origins, err = config.Load(config.Sources{File: file, Env: a.env, Flags: set}); err != nil {
		return err
	}
	level := a.cfg.LogLevel
	if a.origins["log_level"] == "default" && cmd.Annotations[daemon] == "" {
		// A command at a terminal speaks through its output; only what goes wrong belongs between.
		level = "warn"
	}
	if a.log, err = telemetry.NewLogger(a.std.err, level, a.cfg.LogFormat); err != nil {
		return usageError{err}
	}
	a.sandbox = proc.NewSandbox(proc.Mode(a.cfg.Sandbox), a.log)
	a.reg = telemetry.NewRegistry(version)
	return nil
}
