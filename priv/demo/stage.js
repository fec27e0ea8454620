// The picture: chosen, dropped, pasted or photographed.

import { $, fault } from "./page.js";

let shown = null;
let given = () => {};

export function start(onPicture) {
  given = onPicture;
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    if ($("file").files[0]) given($("file").files[0]);
    $("file").value = "";
  });
  document.addEventListener("paste", (event) => {
    const picture = pictureIn(event.clipboardData);
    if (picture) {
      event.preventDefault();
      given(picture);
    }
  });
  drops();
  camera();
}

const pictureIn = (data) => [...(data?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? data?.files?.[0];

// Anywhere on the page: a browser that is not told otherwise would open the file instead.
function drops() {
  let depth = 0;
  const over = (by) => {
    depth = Math.max(0, depth + by);
    document.body.classList.toggle("dragged", depth > 0);
  };
  document.addEventListener("dragenter", (event) => {
    event.preventDefault();
    over(1);
  });
  document.addEventListener("dragleave", () => over(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    const picture = pictureIn(event.dataTransfer);
    if (picture) given(picture);
    else fault("That is not a file. Save the picture first, or copy it and paste it here.");
  });
}

// Shows a picture. Of those that the browser cannot read, such as TIFF, it shows what the server makes of them.
export function show(picture, name, instead) {
  const image = $("picture");
  if (shown) URL.revokeObjectURL(shown);
  shown = URL.createObjectURL(picture);
  image.onerror = () => {
    image.onerror = null;
    image.hidden = !instead;
    image.dataset.cropped = "yes";
    if (instead) image.src = instead;
    else $("blank").textContent = `The browser cannot show ${name}.`;
  };
  delete image.dataset.cropped;
  image.src = shown;
  image.alt = name;
  image.hidden = false;
}

function camera() {
  if (!navigator.mediaDevices?.getUserMedia) return;
  const dialog = $("camera");
  const video = $("video");
  $("photograph").hidden = false;
  $("photograph").addEventListener("click", async () => {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      dialog.showModal();
      $("take").focus();
    } catch (error) {
      fault(error.name === "NotAllowedError" ? "The browser does not allow the camera." : "There is no camera that can be used.");
    }
  });
  $("take").addEventListener("click", () => {
    if (video.videoWidth === 0) return;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => {
      dialog.close();
      given(new File([blob], "photograph.jpg", { type: blob.type }));
    }, "image/jpeg", 0.92);
  });
  $("leave").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
  });
}
