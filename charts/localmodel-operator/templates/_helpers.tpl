{{/* Objects have fixed names: the LocalModel resource is one per cluster, and so is its operator. */}}

{{- define "localmodel-operator.selector" -}}
app.kubernetes.io/name: localmodel-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "localmodel-operator.labels" -}}
{{ include "localmodel-operator.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: localmodel
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "localmodel-operator.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "localmodel-operator.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "localmodel-operator.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
