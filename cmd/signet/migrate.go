package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"signet/storage"
)

func migrateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "migrate", Short: "Bring the database's schema up to date", Args: cobra.NoArgs}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig()
		if err != nil {
			return err
		}
		store, err := storage.Open(cmd.Context(), cfg.DatabaseURL, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", cfg.databaseSetting, err)
		}
		defer store.Close()
		before, want, err := store.Schema(cmd.Context())
		if err == nil {
			err = store.Migrate(cmd.Context())
		}
		if err != nil {
			return unusable(err)
		}
		switch p := out.printer(cmd); {
		case p.json:
			return p.encode(map[string]int64{"from": before, "to": max(before, want)})
		case before >= want:
			_, err = fmt.Fprintf(p.w, "The schema is up to date (version %d).\n", before)
		default:
			_, err = fmt.Fprintf(p.w, "The schema went from version %d to %d.\n", before, want)
		}
		return err
	})
	return cmd
}
