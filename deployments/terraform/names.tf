# Names and marks, as `kinetic` computes them: by them it finds what belongs to a cluster.

locals {
  is_regional = can(regex("[0-9]$", var.location))
  region      = local.is_regional ? var.location : replace(var.location, "/-[^-]*$/", "")

  labels      = { "kinetic-cluster" = var.cluster }
  description = "kinetic-cluster=${var.cluster} (Terraform)"

  # A bucket's name is shared by all the world, and has at most 63 characters.
  project_slug = trim(replace(lower(var.project), "/[^a-z0-9]+/", "-"), "-")
  bucket_names = { for purpose in ["jobs", "builds"] : purpose => "${local.project_slug}-kn-${var.cluster}-${purpose}" }
  name_digest  = substr(sha256("${var.project}/${var.cluster}"), 0, 8)
  buckets = {
    for purpose, name in local.bucket_names : purpose => length(name) <= 63 ? name : join("-", [
      replace(substr(name, 0, 63 - length("-${local.name_digest}-${purpose}")), "/-+$/", ""),
      local.name_digest,
      purpose,
    ])
  }

  # A service account's id has at most 30 characters.
  account_names  = { for purpose in ["nodes", "builds", "pods", "launch"] : purpose => "kn-${var.cluster}-${purpose}" }
  cluster_digest = substr(sha256(var.cluster), 0, 6)
  account_ids = {
    for purpose, name in local.account_names : purpose => length(name) <= 30 ? name : join("-", [
      replace(substr(name, 0, 30 - length("-${local.cluster_digest}-${purpose}")), "/-+$/", ""),
      local.cluster_digest,
      purpose,
    ])
  }

  # A project of an organisation's domain is written the other way round in addresses.
  project_parts = reverse(split(":", var.project))
  accounts      = { for purpose, id in local.account_ids : purpose => "${id}@${join(".", local.project_parts)}.iam.gserviceaccount.com" }
}
