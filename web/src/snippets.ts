// How a student is used, in code that can be pasted.

export const snippets: readonly (readonly [title: string, code: string])[] = [
  [
    "JavaScript (transformers.js)",
    `import { pipeline } from "@huggingface/transformers";

// The folder's path on your server, or its name on the hub.
const embed = await pipeline("image-feature-extraction", "student", { dtype: "fp32" });
const features = await embed("image.jpg");`,
  ],
  [
    "Python (transformers)",
    `from PIL import Image
from transformers import AutoImageProcessor, AutoModel

processor = AutoImageProcessor.from_pretrained("./student")
model = AutoModel.from_pretrained("./student")
inputs = processor(Image.open("image.jpg"), return_tensors="pt")
features = model(**inputs).last_hidden_state[:, 0]`,
  ],
  ["Command line", "npx wecolora evaluate ./student --data ./images"],
];
