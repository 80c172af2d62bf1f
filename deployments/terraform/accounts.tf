# What nodes, builds, pods and the worker are to Google Cloud. None of them has keys.

locals {
  account_titles = merge(
    {
      nodes  = "kinetic: nodes of ${var.cluster}"
      builds = "kinetic: image builds for ${var.cluster}"
      pods   = "kinetic: pods of runs on ${var.cluster}"
    },
    var.worker ? { launch = "kinetic: the worker that launches runs on ${var.cluster}" } : {},
  )
}

resource "google_service_account" "accounts" {
  for_each = local.account_titles

  project      = var.project
  account_id   = local.account_ids[each.key]
  display_name = each.value
  description  = local.description

  depends_on = [google_project_service.apis]
}
