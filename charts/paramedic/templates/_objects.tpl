{{/*
The manifests are the one source: each of their objects is read, changed where a value says so, and
written out. A helper changes the object that it gets; it writes nothing.
*/}}

{{/* The image of a program: (dict "image" values.image "root" $). */}}
{{- define "paramedic.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* What all programs have: (dict "object" object "values" values "root" $). */}}
{{- define "paramedic.workload" -}}
{{- $pod := .object.spec.template.spec -}}
{{- $container := first $pod.containers -}}
{{- $_ := set $container "image" (include "paramedic.image" (dict "image" .values.image "root" .root)) -}}
{{- $_ := set $container "imagePullPolicy" .values.image.pullPolicy -}}
{{- if not (kindIs "invalid" .values.resources) -}}
{{- $_ := set $container "resources" .values.resources -}}
{{- end -}}
{{- $values := .values -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" -}}
{{- if not (kindIs "invalid" (get $values $key)) -}}
{{- $_ := set $pod $key (get $values $key) -}}
{{- end -}}
{{- end -}}
{{- with .root.Values.imagePullSecrets -}}
{{- $_ := set $pod "imagePullSecrets" . -}}
{{- end -}}
{{- end -}}

{{/* The DaemonSet of the agents: (dict "object" object "root" $). */}}
{{- define "paramedic.agent" -}}
{{- $root := .root -}}
{{- $values := $root.Values.agent -}}
{{- include "paramedic.workload" (dict "object" .object "values" $values "root" $root) -}}
{{- $template := .object.spec.template -}}
{{- $container := first $template.spec.containers -}}
{{- $args := $container.args -}}
{{- if $root.Values.dryRun -}}
{{- $args = append $args "--dry-run" -}}
{{- end -}}
{{- $_ := set $container "args" (concat $args $values.extraArgs) -}}
{{- $_ := set $container "env" (concat $container.env $values.extraEnv) -}}
{{- $_ := set $container "volumeMounts" (concat $container.volumeMounts $values.extraVolumeMounts) -}}
{{- $_ := set $template.spec "volumes" (concat $template.spec.volumes $values.extraVolumes) -}}
{{- $_ := set $template.metadata "annotations" (merge (dict) $values.podAnnotations $template.metadata.annotations) -}}
{{- $security := $container.securityContext -}}
{{- if $root.Values.tls -}}
{{- $_ := set $security.capabilities "add" (concat $security.capabilities.add (list "SYS_PTRACE" "SYS_ADMIN")) -}}
{{- end -}}
{{- if $root.Values.privileged -}}
{{- $_ := set $security "privileged" true -}}
{{- $_ := set $security "allowPrivilegeEscalation" true -}}
{{- $_ := set $security "seccompProfile" (dict "type" "Unconfined") -}}
{{- $_ := unset $security "capabilities" -}}
{{- end -}}
{{- end -}}

{{/* The Deployment of the metrics API: (dict "object" object "root" $). */}}
{{- define "paramedic.metricsApi" -}}
{{- $values := .root.Values.metricsApi -}}
{{- include "paramedic.workload" (dict "object" .object "values" $values "root" .root) -}}
{{- $_ := set .object.spec "replicas" $values.replicas -}}
{{- end -}}

{{/* The Deployment of the policy controller: (dict "object" object "root" $). */}}
{{- define "paramedic.policy" -}}
{{- $values := .root.Values.policy -}}
{{- include "paramedic.workload" (dict "object" .object "values" $values "root" .root) -}}
{{- $_ := set .object.spec "replicas" $values.replicas -}}
{{- end -}}

{{/* Labels of what no manifest holds. */}}
{{- define "paramedic.labels" -}}
app.kubernetes.io/name: paramedic
app.kubernetes.io/component: observability
app.kubernetes.io/part-of: paramedic
{{- end -}}
