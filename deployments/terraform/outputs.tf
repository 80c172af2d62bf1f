output "profile" {
  description = "The settings by which runs find what was made, as the fields of a KineticCluster block."
  value = merge(
    {
      project               = var.project
      zone                  = var.location
      cluster               = var.cluster
      namespace             = var.namespace
      build_service_account = local.accounts["builds"]
      job_variables         = { service_account_name = "kinetic-runs" }
    },
    var.retention_days == 30 ? {} : { retention_days = var.retention_days },
  )
}

output "next" {
  description = "What makes the rest, in the cluster and in Prefect, and saves the profile: it finds what is here as it wants it."
  value = join(" ", concat(
    ["kinetic", "up", "--project", var.project, "--zone", var.location, "--cluster", var.cluster],
    var.mode == "autopilot" ? ["--autopilot"] : [],
    var.machine_type == "e2-standard-4" ? [] : ["--machine-type", var.machine_type],
    var.private_nodes ? ["--private-nodes"] : [],
    var.namespace == "default" ? [] : ["--namespace", var.namespace],
    flatten([for member in var.members : ["--member", member]]),
    var.worker ? ["--worker"] : [],
    var.retention_days == 30 ? [] : ["--retention-days", "${var.retention_days}"],
  ))
}
