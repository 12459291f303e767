// The published data sets that are known by name: how images are normalised, what is measured, how a probe is trained.
import type { TransformChoice } from "../utils/image.ts";
import type { JitterAugmentation } from "./transforms.ts";

export const dataSetNames = ["imagenet", "inaturalist2019", "cifar10", "cifar100", "resisc45", "chestxray14"] as const;
export type DataSetName = (typeof dataSetNames)[number];

type Triple = readonly [number, number, number];

export interface Protocol {
  readonly title: string;
  /** Of the training images' channels, from 0 to 1. */
  readonly mean: Triple;
  readonly std: Triple;
  /** What is measured: the share of images whose class comes first, or the area under the ROC curve of each finding. */
  readonly metric: "accuracy" | "auroc";
  /** Epochs of the linear probe (the paper's section 4.2: 90 on ImageNet, 50 on the others). */
  readonly probeEpochs: number;
  /** Share of each class to train on, where the set comes without a split. */
  readonly trainShare?: number;
  /** What the paper's authors do, as their published code says (`--normalization paper`). */
  readonly paper?: PaperProtocol;
}

export interface PaperProtocol {
  readonly mean: Triple;
  readonly std: Triple;
  readonly transform: TransformChoice;
  /** Where the authors train the probe with another deviation than they evaluate with. */
  readonly trainStd?: Triple;
  /** Where the probe's training images are augmented. */
  readonly augmentation?: JitterAugmentation;
}

const grey = (value: number): Triple => [value, value, value];
const imagenet = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const;

const paperImagenet: PaperProtocol = { ...imagenet, transform: { kind: "crop", interpolation: "bicubic" } };

/**
 * Means and deviations are those in common use for each set; ImageNet's stand in where none is common. Those of the paper's
 * authors stand under `paper`; both data sets that they resize without a crop are resized by torchvision's default, bilinear.
 */
export const protocols: Readonly<Record<DataSetName, Protocol>> = {
  imagenet: { title: "ImageNet-1K", ...imagenet, metric: "accuracy", probeEpochs: 90, paper: paperImagenet },
  inaturalist2019: {
    title: "iNaturalist 2019",
    ...imagenet,
    metric: "accuracy",
    probeEpochs: 50,
    paper: paperImagenet,
  },
  cifar10: {
    title: "CIFAR-10",
    mean: [0.4914, 0.4822, 0.4465],
    std: [0.247, 0.2435, 0.2616],
    metric: "accuracy",
    probeEpochs: 50,
  },
  cifar100: {
    title: "CIFAR-100",
    mean: [0.5071, 0.4865, 0.4409],
    std: [0.2673, 0.2564, 0.2762],
    metric: "accuracy",
    probeEpochs: 50,
    paper: paperImagenet,
  },
  resisc45: {
    title: "NWPU-RESISC45",
    mean: [0.368, 0.381, 0.3436],
    std: [0.2035, 0.1854, 0.1849],
    metric: "accuracy",
    probeEpochs: 50,
    trainShare: 0.1,
    paper: {
      mean: [0.3684, 0.3813, 0.3439],
      std: [0.1999, 0.1814, 0.1808],
      transform: { kind: "both-sides", interpolation: "bilinear" },
    },
  },
  chestxray14: {
    title: "ChestX-ray14",
    ...imagenet,
    metric: "auroc",
    probeEpochs: 50,
    paper: {
      mean: grey(0.5057),
      std: grey(0.2508),
      trainStd: grey(0.2507),
      transform: { kind: "both-sides", interpolation: "bilinear" },
      augmentation: { flip: true, brightness: 0.2, contrast: 0.2 },
    },
  },
};

/** The 45 classes of NWPU-RESISC45 (arXiv 1703.00121, table 2), by which its folders are known. */
export const resiscClasses = [
  "airplane",
  "airport",
  "baseball_diamond",
  "basketball_court",
  "beach",
  "bridge",
  "chaparral",
  "church",
  "circular_farmland",
  "cloud",
  "commercial_area",
  "dense_residential",
  "desert",
  "forest",
  "freeway",
  "golf_course",
  "ground_track_field",
  "harbor",
  "industrial_area",
  "intersection",
  "island",
  "lake",
  "meadow",
  "medium_residential",
  "mobile_home_park",
  "mountain",
  "overpass",
  "palace",
  "parking_lot",
  "railway",
  "railway_station",
  "rectangular_farmland",
  "river",
  "roundabout",
  "runway",
  "sea_ice",
  "ship",
  "snowberg",
  "sparse_residential",
  "stadium",
  "storage_tank",
  "tennis_court",
  "terrace",
  "thermal_power_station",
  "wetland",
] as const;
