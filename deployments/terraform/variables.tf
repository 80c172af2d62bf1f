# What `kinetic up` takes as options, with its names and its defaults.

variable "project" {
  description = "The Google Cloud project's id; it has billing."
  type        = string
}

variable "location" {
  description = "The cluster's zone, or the region of a regional or Autopilot cluster."
  type        = string
  default     = "us-central1-a"
}

variable "cluster" {
  description = "The cluster's name; all that belongs to it is named after it."
  type        = string
  default     = "kinetic-cluster"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$", var.cluster))
    error_message = "Give up to 40 lower-case letters, digits and dashes, beginning with a letter."
  }
}

variable "mode" {
  description = "standard, with node pools of your choice, or autopilot, whose nodes GKE makes."
  type        = string
  default     = "standard"

  validation {
    condition     = contains(["standard", "autopilot"], var.mode)
    error_message = "Give standard or autopilot."
  }
}

variable "machine_type" {
  description = "Of the node pool without accelerators, which the cluster's own pods are on, too."
  type        = string
  default     = "e2-standard-4"
}

variable "max_nodes" {
  description = "How many nodes the node pool without accelerators may have at most."
  type        = number
  default     = 4
}

variable "pools" {
  description = "Node pools of accelerators, which have no nodes while nothing runs there: the accelerator as `kinetic accelerators` names it, how many nodes at most (4 by default; a slice of several hosts has as many as it has hosts), a reservation its nodes are taken from, and their zones, where not each of a regional cluster's has the accelerator."
  type = list(object({
    accelerator = string
    max_nodes   = optional(number)
    reservation = optional(string)
    zones       = optional(list(string), [])
  }))
  default = []

  validation {
    condition     = alltrue([for pool in var.pools : pool.reservation == null || !endswith(pool.accelerator, ":spot")])
    error_message = "Spot VMs are not taken from reservations."
  }
}

variable "private_nodes" {
  description = "Whether nodes have no addresses of their own, and reach others by Cloud NAT."
  type        = bool
  default     = false
}

variable "nat" {
  description = "Whether Cloud NAT is made for private nodes; not where the region's network has one for all its subnetworks already."
  type        = bool
  default     = true
}

variable "namespace" {
  description = "Kubernetes namespace of runs."
  type        = string
  default     = "default"
}

variable "members" {
  description = "Who may launch runs, as IAM writes them: user:alice@example.com, group:..., serviceAccount:..."
  type        = list(string)
  default     = []
}

variable "worker" {
  description = "Whether a Prefect worker in the cluster launches runs: it gets a service account."
  type        = bool
  default     = false
}

variable "retention_days" {
  description = "After how many days a run's own objects expire."
  type        = number
  default     = 30
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the cluster."
  type        = bool
  default     = true
}

variable "force_destroy" {
  description = "Whether buckets may be deleted with what they hold."
  type        = bool
  default     = false
}
