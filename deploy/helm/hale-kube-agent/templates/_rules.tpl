{{- /* What it must see to judge: no secrets, no config maps. */ -}}
{{- define "hale.rules" -}}
- apiGroups: [""]
  resources: [pods, events, persistentvolumeclaims]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets, replicasets]
  verbs: [get, list, watch]
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [get, list, watch]
{{- if .Values.diagnostics.enabled }}
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
{{- if eq .Values.mode "apply" }}
- apiGroups: [""]
  resources:
  - configmaps
  - persistentvolumeclaims
  - pods
  - serviceaccounts
  - services
  {{- if .Values.apply.secrets }}
  - secrets
  {{- end }}
  verbs: [get, list, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets, replicasets]
  verbs: [create, patch, delete]
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [create, patch, delete]
{{- if .Values.apply.networking }}
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [get, list, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, create, patch, delete]
{{- end }}
{{- end }}
{{- with .Values.rbac.extraRules }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Whether it may look at nodes. */ -}}
{{- define "hale.nodes" -}}
{{- if eq (toString .Values.rbac.nodes) "auto" }}{{ ternary "true" "" (empty .Values.namespaces) }}
{{- else if eq (toString .Values.rbac.nodes) "true" }}true
{{- end }}
{{- end }}
