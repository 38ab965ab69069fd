package store

import (
	"errors"
	"testing"
	"time"

	"steno/job"
)

func testUsers(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	u := must(f.CreateUser(ctx, User{Username: "Grace", PasswordHash: someHash, Role: RoleAdmin}))(t)
	if got := must(f.User(ctx, u.ID))(t); got != u || u.TokenGeneration != 1 || !u.Created.Equal(epoch) {
		t.Errorf("by id: %+v, want %+v", got, u)
	}
	if got := must(f.UserByName(ctx, "Grace"))(t); got != u {
		t.Errorf("by name: %+v, want %+v", got, u)
	}
	_, err := f.UserByName(ctx, "grace")
	wantCode(t, err, job.Input, "USER_NOT_FOUND")

	_, err = f.CreateUser(ctx, User{Username: "Grace", PasswordHash: someHash, Role: RoleUser})
	wantCode(t, err, job.Input, "USER_EXISTS")
	if !errors.Is(err, ErrConflict) {
		t.Error("USER_EXISTS is no conflict")
	}
	for _, bad := range []User{
		{Username: "", PasswordHash: someHash, Role: RoleUser}, {Username: "a b", PasswordHash: someHash, Role: RoleUser},
		{Username: "x", PasswordHash: someHash, Role: "root"}, {Username: "a\x00b", PasswordHash: someHash, Role: RoleUser},
	} {
		_, err := f.CreateUser(ctx, bad)
		wantCode(t, err, job.Input, "BAD_USER")
	}
	_, err = f.CreateUser(ctx, User{Username: "x", PasswordHash: "secret", Role: RoleUser})
	wantCode(t, err, job.Internal, "BAD_PASSWORD_HASH")

	f.pass(time.Hour)
	role, yes, hash := RoleUser, true, someHash+"2"
	changed := must(f.ChangeUser(ctx, u.ID, UserChange{PasswordHash: &hash, Role: &role, Disabled: &yes}))(t)
	want := u
	want.PasswordHash, want.Role, want.Disabled, want.TokenGeneration, want.Updated = hash, role, true, 2, epoch.Add(time.Hour)
	if got := must(f.User(ctx, u.ID))(t); got != want || changed != want {
		t.Errorf("changed: %+v, want %+v", got, want)
	}
	if got := must(f.ChangeUser(ctx, u.ID, UserChange{}))(t); got.TokenGeneration != 3 || got.PasswordHash != hash || !got.Disabled {
		t.Errorf("the empty change revokes tokens and nothing else: %+v", got)
	}
	_, err = f.ChangeUser(ctx, "nobody", UserChange{})
	wantCode(t, err, job.Input, "USER_NOT_FOUND")

	f.addUser("Zoe")
	var names string
	for _, u := range must(f.Users(ctx))(t) {
		names += u.Username + " "
	}
	if names != "Grace Zoe ada " { // bytes, not dictionary order, on both databases
		t.Errorf("users: %s", names)
	}
}

func testAPIKeys(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	other := f.addUser("eve")
	k := must(f.CreateAPIKey(ctx, APIKey{User: f.user.ID, Name: "laptop", Prefix: "st_abc", Hash: sum("key")}))(t)
	got, owner, err := f.APIKeyByHash(ctx, sum("key"))
	if err != nil || got != k || owner != f.user {
		t.Fatalf("by hash: %+v of %+v, %v", got, owner, err)
	}
	_, _, err = f.APIKeyByHash(ctx, sum("another"))
	wantCode(t, err, job.Input, "API_KEY_NOT_FOUND")
	_, err = f.CreateAPIKey(ctx, APIKey{User: f.user.ID, Name: "plain", Hash: "st_abc_secret"})
	wantCode(t, err, job.Input, "BAD_API_KEY")
	_, err = f.CreateAPIKey(ctx, APIKey{User: "nobody", Name: "x", Hash: sum("x")})
	wantCode(t, err, job.Input, "USER_NOT_FOUND")

	// Use is noted to the minute.
	f.pass(time.Second)
	for range 3 {
		if err := f.UseAPIKey(ctx, k); err != nil {
			t.Fatal(err)
		}
		k = must(f.APIKeys(ctx, f.user.ID))(t)[0]
		if !k.LastUsed.Equal(epoch.Add(time.Second)) {
			t.Fatalf("last used %v", k.LastUsed)
		}
		f.pass(20 * time.Second)
	}

	wantCode(t, f.RevokeAPIKey(ctx, other.ID, k.ID), job.Input, "API_KEY_NOT_FOUND")
	for range 2 {
		if err := f.RevokeAPIKey(ctx, f.user.ID, k.ID); err != nil {
			t.Fatal(err)
		}
		f.pass(time.Hour)
	}
	_, _, err = f.APIKeyByHash(ctx, sum("key"))
	wantCode(t, err, job.Input, "API_KEY_NOT_FOUND")
	if k = must(f.APIKeys(ctx, f.user.ID))(t)[0]; !k.Revoked.Equal(epoch.Add(61 * time.Second)) {
		t.Errorf("revoked at %v: the first time counts", k.Revoked)
	}

	must(f.CreateAPIKey(ctx, APIKey{User: other.ID, Name: "x", Hash: sum("eve's")}))(t)
	yes := true
	must(f.ChangeUser(ctx, other.ID, UserChange{Disabled: &yes}))(t)
	_, _, err = f.APIKeyByHash(ctx, sum("eve's"))
	wantCode(t, err, job.Input, "API_KEY_NOT_FOUND")
}
