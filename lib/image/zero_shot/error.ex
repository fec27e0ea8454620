defmodule Image.ZeroShot.Error do
  @moduledoc """
  What went wrong outside the program: a picture, a label, a file, a model, a device.

  Raised by `Image.ZeroShot.classify/3`, `Image.ZeroShot.label/3` and `Image.ZeroShot.similarity/3`;
  returned as `{:error, error}` by their `try_` forms and by all else here that can fail. A mistake
  in the program itself, such as an option that does not exist, is an `ArgumentError` instead.

  Match on `:reason`; `:message` is for people and its words may change.

  | reason | meaning |
  | --- | --- |
  | `:invalid_label` | the label list is empty, no list or too long, or makes too many prompts; a label is no string, no valid UTF-8 or too long |
  | `:invalid_classifier` | the binary is no classifier, or a damaged one |
  | `:wrong_model` | the classifier was compiled for another model than the call goes to |
  | `:invalid_image` | the bytes are no picture, or not a whole one |
  | `:unsupported_image` | a picture, but of a format or with pixels that are not read here; or a term that is no picture at all |
  | `:image_too_large` | the picture exceeds one of the limits, which the message names |
  | `:not_found` | the file or the model directory does not exist |
  | `:io` | the file or the directory exists, but cannot be read |
  | `:unsupported_model` | the directory holds a model, but not a CLIP with both towers |
  | `:invalid_config` | `config.json` or `preprocessor_config.json` is damaged or contradicts the weights |
  | `:invalid_weights` | the file with the weights is damaged, or lacks a tensor |
  | `:invalid_tokenizer` | a file of the tokenizer is damaged or does not fit the model |
  | `:device_unavailable` | the device asked for is not there |
  | `:model_unloaded` | the model was unloaded while it was being used |
  | `:overloaded` | as many callers as the serving takes are inside, or too many to serve this one in its time: try again later |
  | `:timeout` | the time limit of the call was reached |
  | `:serving_down` | the process that keeps the model ended during the call, none of that name is there, or the application `:image_zero_shot` is not started: try again |
  | `:node_down` | the node with the serving was lost during the call: try again |
  | `:incompatible` | the node with the serving runs another version of this library |
  | `:out_of_memory` | the device has no room for the work |
  | `:libtorch` | libtorch cannot be loaded, and so no model; the message says what to do |
  | `:torch` | libtorch refused a computation |
  | `:invalid_argument` | the native library was handed something it does not take |
  | `:internal` | a defect in this library; the system goes on, but please report it. In `classify_many/3` also an `Image.ZeroShot.Source` of yours that crashed |

  Where a model is fetched by its name, and with the way out in each message:

  | reason | meaning |
  | --- | --- |
  | `:invalid_name` | what is given is no name of a repository or of a revision |
  | `:invalid_option` | the endpoint, the token or the file with certificates makes no sense |
  | `:offline` | the model is not in the cache, and offline mode is on |
  | `:unauthorized` | a token is needed, or the one in use is not accepted |
  | `:gated` | the licence of the model has to be accepted first |
  | `:forbidden` | the Hub refuses, for another reason |
  | `:repo_not_found` | there is no such repository, or it is private |
  | `:revision_not_found` | the repository has no such branch, tag or commit |
  | `:file_not_found` | the repository lacks a file that a CLIP model has |
  | `:gone` | it was there once |
  | `:rate_limited` | too many requests |
  | `:server_error`, `:unexpected_status` | the Hub is in trouble |
  | `:not_a_hub` | something else answers in its place, such as a login page or a proxy |
  | `:connection`, `:timeout` | the Hub cannot be reached, or stopped answering |
  | `:truncated`, `:wrong_length`, `:hash_mismatch`, `:encoded`, `:invalid_index` | what came is not what was announced |
  | `:redirect_loop`, `:too_many_redirects`, `:insecure` | a redirect that is not followed |
  | `:too_large`, `:disk_full`, `:cache_not_writable` | there is no place for the model, or no directory to keep it in |
  | `:cancelled` | who asked for the download has ended |
  """

  defexception [:reason, :message]

  @type reason ::
          :invalid_label
          | :invalid_classifier
          | :wrong_model
          | :invalid_image
          | :unsupported_image
          | :image_too_large
          | :not_found
          | :io
          | :unsupported_model
          | :invalid_config
          | :invalid_weights
          | :invalid_tokenizer
          | :device_unavailable
          | :model_unloaded
          | :overloaded
          | :timeout
          | :serving_down
          | :node_down
          | :incompatible
          | :out_of_memory
          | :libtorch
          | :torch
          | :invalid_argument
          | :internal
          | hub_reason()

  @typedoc "Why a model could not be fetched by its name."
  @type hub_reason ::
          :invalid_name
          | :invalid_option
          | :offline
          | :unauthorized
          | :gated
          | :forbidden
          | :repo_not_found
          | :revision_not_found
          | :file_not_found
          | :gone
          | :rate_limited
          | :server_error
          | :unexpected_status
          | :not_a_hub
          | :connection
          | :truncated
          | :wrong_length
          | :hash_mismatch
          | :encoded
          | :invalid_index
          | :redirect_loop
          | :too_many_redirects
          | :insecure
          | :too_large
          | :disk_full
          | :cache_not_writable
          | :cancelled

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
