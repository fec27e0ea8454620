defmodule Image.ZeroShot.Error do
  @moduledoc """
  What went wrong outside the program: a picture, a label, a file, a model, a device.

  Raised by `Image.ZeroShot.classify/3`, `Image.ZeroShot.label/3` and `Image.ZeroShot.similarity/3`;
  returned as `{:error, error}` by their `try_` forms and by `Image.ZeroShot.Model`. A mistake in
  the program itself, such as an option that does not exist, is an `ArgumentError` instead.

  Match on `:reason`; `:message` is for people and its words may change.

  | reason | meaning |
  | --- | --- |
  | `:invalid_label` | the label list is empty, no list or too long; a label is no string, no valid UTF-8 or too long |
  | `:invalid_image` | the bytes are no picture, or not a whole one |
  | `:unsupported_image` | a picture, but of a format or with pixels that are not read here; or a term that is no picture at all |
  | `:image_too_large` | the picture exceeds one of the limits, which the message names |
  | `:not_found` | the file or the model directory does not exist |
  | `:io` | the file or the directory exists, but cannot be read |
  | `:unsupported_repo` | this version cannot take a model from there |
  | `:unsupported_model` | the directory holds a model, but not a CLIP with both towers |
  | `:invalid_config` | `config.json` or `preprocessor_config.json` is damaged or contradicts the weights |
  | `:invalid_weights` | the file with the weights is damaged, or lacks a tensor |
  | `:invalid_tokenizer` | `tokenizer.json` is damaged or does not fit the model |
  | `:device_unavailable` | the device asked for is not there |
  | `:model_unloaded` | the model was unloaded while it was being used |
  | `:out_of_memory` | the device has no room for the work |
  | `:torch` | libtorch refused a computation |
  | `:invalid_argument` | the native library was handed something it does not take |
  | `:internal` | a defect in this library; the system goes on, but please report it |
  """

  defexception [:reason, :message]

  @type reason ::
          :invalid_label
          | :invalid_image
          | :unsupported_image
          | :image_too_large
          | :not_found
          | :io
          | :unsupported_repo
          | :unsupported_model
          | :invalid_config
          | :invalid_weights
          | :invalid_tokenizer
          | :device_unavailable
          | :model_unloaded
          | :out_of_memory
          | :torch
          | :invalid_argument
          | :internal

  @type t :: %__MODULE__{reason: reason(), message: String.t()}

  @doc false
  @spec error(reason(), String.t()) :: {:error, t()}
  def error(reason, message), do: {:error, %__MODULE__{reason: reason, message: message}}

  # The one place where what the native library answers becomes what users see.
  @doc false
  @spec from_native({:ok, value} | {:error, {reason(), String.t()}}) ::
          {:ok, value} | {:error, t()}
        when value: term()
  def from_native({:ok, value}), do: {:ok, value}
  def from_native({:error, {reason, message}}), do: error(reason, message)

  @doc false
  @spec prefix(t(), String.t()) :: t()
  def prefix(%__MODULE__{} = error, name), do: %{error | message: "#{name}: #{error.message}"}
end
