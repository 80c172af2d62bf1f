# The least that nodes, builds, pods and those who launch need, each on the smallest thing there is.
# Where each role is from: https://kinetic-flows.readthedocs.io/setup-roles/

locals {
  members   = { for purpose, email in local.accounts : purpose => "serviceAccount:${email}" }
  launchers = concat(var.members, var.worker ? [local.members["launch"]] : [])

  on_project = concat(
    [
      { role = "roles/container.defaultNodeServiceAccount", member = local.members["nodes"] },
      { role = "roles/logging.logWriter", member = local.members["builds"] },
    ],
    flatten([
      for member in local.launchers : [
        { role = "roles/cloudbuild.builds.editor", member = member },
        { role = "roles/container.clusterViewer", member = member },
        { role = "roles/serviceusage.serviceUsageConsumer", member = member },
      ]
    ]),
  )

  on_buckets = concat(
    [
      { bucket = "jobs", role = "roles/storage.objectUser", member = local.members["pods"] },
      { bucket = "builds", role = "roles/storage.objectUser", member = local.members["builds"] },
      { bucket = "builds", role = "roles/storage.legacyBucketReader", member = local.members["builds"] },
    ],
    flatten([
      for member in local.launchers : [
        { bucket = "jobs", role = "roles/storage.objectUser", member = member },
        { bucket = "builds", role = "roles/storage.objectUser", member = member },
      ]
    ]),
  )

  on_repository = concat(
    [
      { role = "roles/artifactregistry.reader", member = local.members["nodes"] },
      { role = "roles/artifactregistry.writer", member = local.members["builds"] },
    ],
    [for member in local.launchers : { role = "roles/artifactregistry.writer", member = member }],
  )

  # Kubernetes service accounts that may act as Google ones.
  identities = merge(
    { pods = "${var.namespace}/kinetic-runs" },
    var.worker ? { launch = "${var.namespace}/kinetic-worker" } : {},
  )
}

resource "google_project_iam_member" "roles" {
  for_each = { for grant in local.on_project : "${grant.role} ${grant.member}" => grant }

  project = var.project
  role    = each.value.role
  member  = each.value.member

  depends_on = [google_service_account.accounts]
}

resource "google_storage_bucket_iam_member" "roles" {
  for_each = { for grant in local.on_buckets : "${grant.bucket} ${grant.role} ${grant.member}" => grant }

  bucket = google_storage_bucket.buckets[each.value.bucket].name
  role   = each.value.role
  member = each.value.member

  depends_on = [google_service_account.accounts]
}

resource "google_artifact_registry_repository_iam_member" "roles" {
  for_each = { for grant in local.on_repository : "${grant.role} ${grant.member}" => grant }

  project    = var.project
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.repository_id
  role       = each.value.role
  member     = each.value.member

  depends_on = [google_service_account.accounts]
}

# Who may have builds run as their account, and no other.
resource "google_service_account_iam_member" "launchers" {
  for_each = toset(local.launchers)

  service_account_id = google_service_account.accounts["builds"].name
  role               = "roles/iam.serviceAccountUser"
  member             = each.value

  depends_on = [google_service_account.accounts]
}

# The first cluster with Workload Identity makes the project's pool of identities.
resource "google_service_account_iam_member" "identities" {
  for_each = local.identities

  service_account_id = google_service_account.accounts[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${each.value}]"

  depends_on = [google_container_cluster.standard, google_container_cluster.autopilot]
}
