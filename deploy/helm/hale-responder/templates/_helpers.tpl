{{- define "hale.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "hale.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains .Release.Name (include "hale.name" .) }}
{{- include "hale.name" . }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "hale.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "hale.selector" -}}
app.kubernetes.io/name: {{ include "hale.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hale.labels" -}}
{{ include "hale.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "hale.serviceAccount" -}}
{{- default (ternary (include "hale.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "hale.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
