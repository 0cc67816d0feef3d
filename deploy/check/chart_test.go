// Package check renders the Helm chart, and holds the result against Kubernetes' types and what Signet needs. `make deploy-check` runs it.
package check

import (
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

const chart = "../helm/signet"

// render returns the manifests by their kind and name, each read strictly as its type.
func render(t *testing.T, values map[string]any) (map[string]any, error) {
	t.Helper()
	c, err := loader.Load(chart)
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "signet", Namespace: "auth"}, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	objects := map[string]any{}
	for file, text := range files {
		if strings.HasSuffix(file, "NOTES.txt") {
			objects["notes"] = text
			continue
		}
		for document := range strings.SplitSeq(text, "\n---\n") {
			var head struct {
				Kind     string
				Metadata struct{ Name string }
			}
			if err := yaml.Unmarshal([]byte(document), &head); err != nil {
				t.Fatalf("%s: %v\n%s", file, err, document)
			}
			var object any
			switch head.Kind {
			case "":
				continue
			case "Deployment":
				object = new(apps.Deployment)
			case "Service":
				object = new(core.Service)
			case "Ingress":
				object = new(networking.Ingress)
			case "NetworkPolicy":
				object = new(networking.NetworkPolicy)
			case "PodDisruptionBudget":
				object = new(policy.PodDisruptionBudget)
			case "ServiceMonitor": // the Prometheus operator's
				object = &map[string]any{}
			default:
				t.Fatalf("%s: the kind %s is not known to this test", file, head.Kind)
			}
			if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			objects[head.Kind+" "+head.Metadata.Name] = object
		}
	}
	return objects, nil
}

func values(t *testing.T, name string) map[string]any {
	t.Helper()
	v, err := chartutil.ReadValuesFile(chart + "/ci/" + name + "-values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestLint(t *testing.T) {
	for _, name := range []string{"small", "full"} {
		for _, m := range lint.All(chart, values(t, name), "auth", true).Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("with the %s values: %v", name, m)
			}
		}
	}
}

func TestManifests(t *testing.T) {
	for name, want := range map[string][]string{
		"small": {"Deployment signet", "Service signet", "Service signet-management"},
		"full": {"Deployment signet", "Service signet", "Service signet-management", "Ingress signet", "NetworkPolicy signet",
			"PodDisruptionBudget signet", "ServiceMonitor signet"},
	} {
		objects, err := render(t, values(t, name))
		if err != nil {
			t.Fatal(err)
		}
		if len(objects) != len(want)+1 {
			t.Errorf("with the %s values: got %d manifests, want %q", name, len(objects), want)
		}
		for _, w := range want {
			if objects[w] == nil {
				t.Errorf("with the %s values there is no %s", name, w)
			}
		}
		deployment := objects["Deployment signet"].(*apps.Deployment)
		pod := deployment.Spec.Template.Spec
		c := pod.Containers[0]
		for what, ok := range map[string]bool{
			"is not root":                *pod.SecurityContext.RunAsNonRoot && *pod.SecurityContext.RunAsUser == 65532,
			"has a read-only disk":       *c.SecurityContext.ReadOnlyRootFilesystem,
			"gets no privileges":         !*c.SecurityContext.AllowPrivilegeEscalation && c.SecurityContext.Capabilities.Drop[0] == "ALL",
			"has a profile for seccomp":  pod.SecurityContext.SeccompProfile.Type == core.SeccompProfileTypeRuntimeDefault,
			"has no token":               !*pod.AutomountServiceAccountToken,
			"has no SIGNET_PORT set":     pod.EnableServiceLinks != nil && !*pod.EnableServiceLinks,
			"is restarted by /livez":     c.LivenessProbe.HTTPGet.Path == "/livez",
			"is asked for /readyz":       c.ReadinessProbe.HTTPGet.Path == "/readyz",
			"is not gone before another": deployment.Spec.Strategy.RollingUpdate.MaxUnavailable.IntVal == 0,
		} {
			if !ok {
				t.Errorf("with the %s values: not so: a pod %s", name, what)
			}
		}
		ports := map[string]int32{}
		for _, p := range c.Ports {
			ports[p.Name] = p.ContainerPort
		}
		env := map[string]core.EnvVar{}
		for _, e := range c.Env {
			if _, twice := env[e.Name]; twice {
				t.Errorf("with the %s values %s is there twice", name, e.Name)
			}
			env[e.Name] = e
		}
		if env["SIGNET_LISTEN"].Value != ":8080" || ports["http"] != 8080 || env["SIGNET_MANAGEMENT_LISTEN"].Value != ":8081" || ports["management"] != 8081 {
			t.Errorf("with the %s values the ports are %v", name, ports)
		}
		for _, secret := range []string{"SIGNET_SECRET", "SIGNET_DATABASE_URL", "SIGNET_SMTP_URL", "SIGNET_SIGNING_SECRET"} {
			if env[secret].ValueFrom == nil || env[secret].ValueFrom.SecretKeyRef == nil {
				t.Errorf("with the %s values %s does not come from a Secret", name, secret)
			}
		}
		for _, service := range []string{"Service signet", "Service signet-management"} {
			s := objects[service].(*core.Service)
			for label, value := range s.Spec.Selector {
				if deployment.Spec.Template.Labels[label] != value {
					t.Errorf("the %s selects %s=%s, which pods have not", service, label, value)
				}
			}
			if len(s.Spec.Ports) != 1 || ports[s.Spec.Ports[0].TargetPort.StrVal] == 0 {
				t.Errorf("the %s leads to %v", service, s.Spec.Ports)
			}
		}
	}
}

func TestValuesThatAreRefused(t *testing.T) {
	for want, change := range map[string]func(map[string]any){
		"image.repository": func(v map[string]any) { v["image"] = map[string]any{} },
		"issuer: the URL":  func(v map[string]any) { delete(v, "issuer") },
		"issuer":           func(v map[string]any) { v["issuer"] = "http://auth.example.com" },
		"the issuer has a path": func(v map[string]any) {
			v["issuer"], v["ingress"] = "https://example.com/auth", map[string]any{"enabled": true}
		},
		"SIGNET_SECRET": func(v map[string]any) { v["config"] = map[string]any{"SIGNET_SECRET": "x"} },
		"replica":       func(v map[string]any) { v["replica"] = 3 },
	} {
		v := values(t, "small")
		change(v)
		if _, err := render(t, v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that says %q", err, want)
		}
	}
}

func TestNotesWarn(t *testing.T) {
	v := values(t, "full")
	delete(v["config"].(map[string]any), "SIGNET_TRUSTED_PROXIES")
	objects, err := render(t, v)
	if err != nil {
		t.Fatal(err)
	}
	if notes := objects["notes"].(string); !strings.Contains(notes, "SIGNET_TRUSTED_PROXIES is not set") {
		t.Errorf("nothing warns of an ingress that is not trusted:\n%s", notes)
	}
}
