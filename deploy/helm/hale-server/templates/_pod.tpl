{{- define "hale.scheme" -}}
{{ ternary "https" "http" (not (empty .Values.tls.existingSecret)) }}
{{- end }}

{{- /* The pod, of a StatefulSet or a Deployment. */ -}}
{{- define "hale.pod" -}}
metadata:
  labels:
    {{- include "hale.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if or .Values.podAnnotations .Values.metrics.enabled }}
  annotations:
    {{- if .Values.metrics.enabled }}
    prometheus.io/scrape: "true"
    prometheus.io/port: {{ .Values.metrics.port | quote }}
    prometheus.io/path: /metrics
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
spec:
  serviceAccountName: {{ include "hale.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
  - name: hale-server
    image: {{ include "hale.image" . | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args:
    - server
    - --data-dir=/var/lib/hale
    - --listen=0.0.0.0:7450
    - --advertise-url={{ default (printf "%s://$(POD_IP):7450" (include "hale.scheme" .)) .Values.advertiseUrl }}
    {{- if .Values.tls.existingSecret }}
    - --tls-cert=/etc/hale/tls/tls.crt
    - --tls-key=/etc/hale/tls/tls.key
    {{- else }}
    - --insecure-http
    {{- end }}
    {{- if .Values.adminToken.existingSecret }}
    - --admin-token-file=/etc/hale/admin/{{ .Values.adminToken.key }}
    {{- end }}
    {{- if .Values.secretKey.existingSecret }}
    - --secret-key-file=/etc/hale/secret/{{ .Values.secretKey.key }}
    {{- end }}
    {{- if .Values.metrics.enabled }}
    - --metrics-listen=0.0.0.0:{{ .Values.metrics.port }}
    {{- end }}
    - --diagnostics-retention={{ .Values.diagnostics.retention }}
    - --diagnostics-cleanup-interval={{ .Values.diagnostics.cleanupInterval }}
    - --log-format={{ .Values.log.format }}
    {{- range .Values.extraArgs }}
    - {{ . | quote }}
    {{- end }}
    env:
    - name: POD_IP
      valueFrom: {fieldRef: {fieldPath: status.podIP}}
    {{- if eq .Values.database.kind "postgresql" }}
    - name: HALE_DATABASE_URL
      valueFrom:
        secretKeyRef:
          name: {{ required "database.postgresql.existingSecret: the Secret with the database's URL" .Values.database.postgresql.existingSecret }}
          key: {{ .Values.database.postgresql.key }}
    {{- end }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    ports:
    - name: {{ include "hale.scheme" . }}
      containerPort: 7450
      protocol: TCP
    {{- if .Values.metrics.enabled }}
    - name: metrics
      containerPort: {{ .Values.metrics.port }}
      protocol: TCP
    {{- end }}
    startupProbe:
      httpGet: {path: /healthz, port: {{ include "hale.scheme" . }}, scheme: {{ include "hale.scheme" . | upper }}}
      periodSeconds: 2
      failureThreshold: 60
    livenessProbe:
      httpGet: {path: /healthz, port: {{ include "hale.scheme" . }}, scheme: {{ include "hale.scheme" . | upper }}}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 3
    readinessProbe:
      httpGet: {path: /readyz, port: {{ include "hale.scheme" . }}, scheme: {{ include "hale.scheme" . | upper }}}
      periodSeconds: 5
      timeoutSeconds: 5
      failureThreshold: 2
    resources:
      {{- toYaml .Values.resources | nindent 6 }}
    securityContext:
      {{- toYaml .Values.securityContext | nindent 6 }}
    volumeMounts:
    - name: data
      mountPath: /var/lib/hale
    - name: tmp
      mountPath: /tmp
    {{- if .Values.tls.existingSecret }}
    - name: tls
      mountPath: /etc/hale/tls
      readOnly: true
    {{- end }}
    {{- if .Values.adminToken.existingSecret }}
    - name: admin
      mountPath: /etc/hale/admin
      readOnly: true
    {{- end }}
    {{- if .Values.secretKey.existingSecret }}
    - name: secret
      mountPath: /etc/hale/secret
      readOnly: true
    {{- end }}
  volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- if eq .Values.database.kind "postgresql" }}
  - name: data
    emptyDir: {sizeLimit: 64Mi}
  {{- end }}
  {{- if .Values.tls.existingSecret }}
  - name: tls
    secret: {secretName: {{ .Values.tls.existingSecret }}, defaultMode: 0440}
  {{- end }}
  {{- if .Values.adminToken.existingSecret }}
  - name: admin
    secret: {secretName: {{ .Values.adminToken.existingSecret }}, defaultMode: 0440}
  {{- end }}
  {{- if .Values.secretKey.existingSecret }}
  - name: secret
    secret: {secretName: {{ .Values.secretKey.existingSecret }}, defaultMode: 0440}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
