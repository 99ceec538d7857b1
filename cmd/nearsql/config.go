package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"
)

// The config file has a section for each side. A key is a flag's name. What a
// flag or an environment variable sets, the file does not change.
const (
	sectionServe  = "serve"
	sectionClient = "client"
)

// configFlag names the config file.
func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Usage: "read settings from TOML `FILE`", EnvVars: []string{"NEARSQL_CONFIG"}}
}

// maxConfigSize bounds a config file, in bytes.
const maxConfigSize = 1 << 20

// applyConfig sets the flags of a command, which are flags, from its section of the config file.
func applyConfig(c *cli.Context, section string, flags []cli.Flag) error {
	file := c.String("config")
	if file == "" {
		return nil
	}
	settings, err := readConfig(file)
	if err != nil {
		return err
	}
	for key, value := range settings[section] {
		if err := knownKey(flags, section, key); err != nil {
			return usagef("config file %s: %v", file, err)
		}
		if c.IsSet(key) {
			continue
		}
		for _, text := range values(value) {
			if err := c.Set(key, text); err != nil {
				return usagef("config file %s: [%s] %s = %v: %v", file, section, key, value, err)
			}
		}
	}
	return nil
}

// readConfig reads the file, and refuses sections and keys that no command knows.
func readConfig(file string) (map[string]map[string]any, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, usagef("config file: %v", err)
	}
	if info.Size() > maxConfigSize {
		return nil, usagef("config file %s is larger than %d bytes", file, maxConfigSize)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, usagef("config file: %v", err)
	}
	var raw map[string]any
	if _, err := toml.Decode(string(text), &raw); err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return nil, usagef("config file %s, line %d: %s", file, pe.Position.Line, pe.Message)
		}
		return nil, usagef("config file %s: %v", file, err)
	}
	settings := make(map[string]map[string]any)
	for section, value := range raw {
		if section != sectionServe && section != sectionClient {
			return nil, usagef("config file %s: key %q is unknown: there are the sections [%s] and [%s]", file, section, sectionServe, sectionClient)
		}
		keys, ok := value.(map[string]any)
		if !ok {
			return nil, usagef("config file %s: %q is a section, not a value", file, section)
		}
		settings[section] = keys
	}
	for key := range settings[sectionServe] {
		if err := knownKey(serveFlags(), sectionServe, key); err != nil {
			return nil, usagef("config file %s: %v", file, err)
		}
	}
	for key := range settings[sectionClient] {
		if err := knownKey(clientFlags(), sectionClient, key); err != nil {
			return nil, usagef("config file %s: %v", file, err)
		}
	}
	return settings, nil
}

func knownKey(flags []cli.Flag, section, key string) error {
	var names []string
	for _, f := range flags {
		name := f.Names()[0]
		if name == key && name != "config" {
			return nil
		}
		if name != "config" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return fmt.Errorf("[%s] has no key %q; there are %s", section, key, strings.Join(names, ", "))
}

// values spells a value of TOML as flags do.
func values(v any) []string {
	list, ok := v.([]any)
	if !ok {
		return []string{fmt.Sprint(v)}
	}
	var out []string
	for _, item := range list {
		out = append(out, fmt.Sprint(item))
	}
	return out
}
