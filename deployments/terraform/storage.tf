# The bucket of runs and the bucket of image builds, closed to the public, and the images.

locals {
  expiring = {
    # Runs write those compiled programs anew that they use.
    jobs   = { "compile-cache/" = 30, "runs/" = var.retention_days }
    builds = { "builds/" = var.retention_days, "logs/" = var.retention_days }
  }
}

resource "google_storage_bucket" "buckets" {
  for_each = local.buckets

  project                     = var.project
  name                        = each.value
  location                    = local.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.force_destroy

  dynamic "lifecycle_rule" {
    for_each = local.expiring[each.key]

    content {
      action {
        type = "Delete"
      }
      condition {
        age            = lifecycle_rule.value
        matches_prefix = [lifecycle_rule.key]
      }
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  depends_on = [google_project_service.apis]
}

resource "google_artifact_registry_repository" "images" {
  project       = var.project
  location      = local.region
  repository_id = "kn-${var.cluster}"
  description   = "images of kinetic runs on ${var.cluster}"
  format        = "DOCKER"
  labels        = local.labels

  depends_on = [google_project_service.apis]
}
