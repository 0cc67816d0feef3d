package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"signet/users"
)

// profileFlags are the flags for the members of a user's profile.
type profileFlags struct {
	groups, claims []string
}

// profileTexts are the members that are texts, by their flags.
var profileTexts = []struct{ flag, member, help string }{
	{"name", "name", "the full `name`"},
	{"given-name", "given_name", "the given `name`"},
	{"family-name", "family_name", "the family `name`"},
	{"picture", "picture", "an https `URL` of a picture"},
	{"locale", "locale", "the `language`, such as de or pt-BR"},
	{"zoneinfo", "zoneinfo", "the time `zone`, such as Europe/Berlin"},
	{"email", "email", "the e-mail `address`"},
	{"phone-number", "phone_number", "the phone `number`, such as +15551234567"},
}

// addProfile adds the flags to a command.
func addProfile(cmd *cobra.Command) *profileFlags {
	p := &profileFlags{}
	for _, t := range profileTexts {
		cmd.Flags().String(t.flag, "", t.help+`; "" removes it`)
	}
	cmd.Flags().Bool("email-verified", false, "the address was proved to be the user's")
	cmd.Flags().Bool("phone-number-verified", false, "the phone number was proved to be the user's")
	cmd.Flags().StringArrayVar(&p.groups, "group", nil, "a `group` that the user is in, again for each; all are replaced, and \"\" removes them")
	cmd.Flags().StringArrayVar(&p.claims, "claim", nil, "a claim of the user's own, `NAME=JSON`, again for each; NAME=null removes it")
	return p
}

// members returns the members that the flags change of a profile.
func (p *profileFlags) members(cmd *cobra.Command, known users.Profile) (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	set := func(member string, value any) error {
		text, err := json.Marshal(value)
		members[member] = text
		return err
	}
	var err error
	for _, t := range profileTexts {
		if cmd.Flags().Changed(t.flag) {
			value, flagErr := cmd.Flags().GetString(t.flag)
			err = errors.Join(err, flagErr, set(t.member, value))
		}
	}
	for flag, member := range map[string]string{"email-verified": "email_verified", "phone-number-verified": "phone_number_verified"} {
		if cmd.Flags().Changed(flag) {
			value, flagErr := cmd.Flags().GetBool(flag)
			err = errors.Join(err, flagErr, set(member, value))
		}
	}
	if cmd.Flags().Changed("group") {
		groups := p.groups
		if len(groups) == 1 && groups[0] == "" {
			groups = nil
		}
		err = errors.Join(err, set("groups", groups))
	}
	if err != nil || len(p.claims) == 0 {
		return members, err
	}
	claims := maps.Clone(known.Claims)
	if claims == nil {
		claims = map[string]json.RawMessage{}
	}
	for _, c := range p.claims {
		name, value, ok := strings.Cut(c, "=")
		if !ok || !json.Valid([]byte(value)) {
			return nil, usageError{fmt.Errorf(`--claim: %q is not of the form NAME=JSON, such as tier='"gold"' or level=3`, c)}
		}
		claims[name] = json.RawMessage(value)
	}
	return members, set("claims", claims)
}

// errNothingToChange is the error of an update whose flags mention nothing.
var errNothingToChange = usageError{errors.New("nothing to change: no flag says what")}

func userUpdateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "update NAME", Short: "Change what is known of a user: name, e-mail address, groups, claims", Args: namedArgs,
		Example: `  signet user update ann --name "Ann Arbor" --email ann@example.com --email-verified
  signet user update ann --group staff --group admins --claim tier='"gold"'`,
	}
	profile := addProfile(cmd)
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, args []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			u, err := findUser(ctx, a, args[0])
			if err != nil {
				return err
			}
			members, err := profile.members(cmd, u.Profile)
			if err != nil {
				return err
			}
			if len(members) == 0 {
				return errNothingToChange
			}
			if u, err = a.users.Update(ctx, u.ID, users.Change{Profile: members}, cliOrigin()); err != nil {
				return err
			}
			return printUser(out.printer(cmd), userWithPassword{User: u})
		})
	})
	return cmd
}
