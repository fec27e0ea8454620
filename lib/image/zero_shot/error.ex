defmodule Image.ZeroShot.Error do
  @moduledoc """
  The error for what goes wrong outside the program: a picture, a label, a file, a model, a device.

  `Image.ZeroShot.classify/3`, `Image.ZeroShot.label/3`, `Image.ZeroShot.explain/3`,
  `Image.ZeroShot.similarity/3`, `Image.ZeroShot.suggest/2`, `Image.ZeroShot.classifier/2`,
  `Image.ZeroShot.embed/2` and `Image.ZeroShot.embed_text/2` raise it. Their `try_` forms and all other
  functions that can fail return `{:error, error}`. A mistake in the program, such as an option that
  does not exist, is an `ArgumentError` instead.

  Match on `:reason`. `:message` is for people, and its words may change.

  > #### Do not show messages to strangers {: .warning}
  >
  > A message names paths, options and limits. Log it, and show users words of your own for the reason.

  | reason | meaning |
  | --- | --- |
  | `:invalid_label` | the labels are not a list, or there are none, or too many of them or of their prompts; a label is not a string, not valid UTF-8, too long, or has the name of `:other` |
  | `:invalid_classifier` | the binary is not a classifier, or a damaged one |
  | `:invalid_embedding` | the binary is not an embedding, or a damaged one; or the vector is empty, zero or not finite |
  | `:wrong_model` | the classifier or the embedding is of another model than the one of the call, or two embeddings are of different models |
  | `:invalid_image` | the bytes are not a picture, or it is damaged or cut short |
  | `:unsupported_image` | the picture has a format, or pixels, that this library does not read; or the term is not a picture |
  | `:image_too_large` | the picture exceeds a limit, which the message names |
  | `:not_found` | the file or the model directory does not exist, or the index has no such entry |
  | `:io` | the file or the directory exists, but cannot be read |
  | `:unsupported_model` | the directory holds a model, but not one of a supported family with both towers; or `explain/3` cannot explain a model of this family |
  | `:unsupported_scores` | the model does not have the scores that `:scores` asks for |
  | `:invalid_config` | `config.json`, `preprocessor_config.json` or `processor_config.json` is damaged or contradicts the weights |
  | `:invalid_weights` | the file with the weights is damaged, or lacks a tensor |
  | `:invalid_tokenizer` | a file of the tokenizer is damaged or does not fit the model |
  | `:index_full` | the index holds as many entries as its `:max_size` |
  | `:invalid_index_file` | the file is not an index, or it is damaged |
  | `:index_down` | no index of this name is running, or it is restarting: try again |
  | `:disk_full` | the disk has no room for the file of an index, or for a model |
  | `:device_unavailable` | the device asked for is not there |
  | `:model_unloaded` | the model was unloaded while it was being used |
  | `:overloaded` | the serving is full, or could not serve this call within its `:timeout`: try again later |
  | `:timeout` | the call reached its `:timeout` |
  | `:serving_down` | the serving terminated during the call, there is none of that name, or the application `:image_zero_shot` is not started: try again |
  | `:node_down` | the node with the serving was lost during the call: try again |
  | `:incompatible` | the node with the serving runs another version of this library |
  | `:out_of_memory` | the device has no room for the work |
  | `:libtorch` | libtorch cannot be loaded, and therefore no model; the message says what to do |
  | `:torch` | libtorch refused a computation |
  | `:invalid_argument` | the native library does not take an argument |
  | `:internal` | a bug in this library. The VM goes on; please report it. In `classify_many/3` also an `Image.ZeroShot.Source` of yours that crashed |

  Reasons when a model is fetched by name. Each message says what to do:

  | reason | meaning |
  | --- | --- |
  | `:invalid_name` | the name of the repository or of the revision is not valid |
  | `:invalid_option` | the endpoint, the token or the file with certificates is not valid |
  | `:offline` | the model is not in the cache, and offline mode is on |
  | `:unauthorized` | a token is needed, or the Hub does not accept the one in use |
  | `:gated` | the model's licence has to be accepted first |
  | `:forbidden` | the Hub refuses for another reason |
  | `:repo_not_found` | there is no such repository, or it is private |
  | `:revision_not_found` | the repository has no such branch, tag or commit |
  | `:file_not_found` | the repository lacks a file that a model needs |
  | `:gone` | removed from the Hub (410) |
  | `:rate_limited` | too many requests |
  | `:server_error`, `:unexpected_status` | the Hub has an error of its own |
  | `:not_a_hub` | something other than a Hub answers, such as a login page or a proxy |
  | `:connection`, `:timeout` | the Hub cannot be reached, or stopped answering |
  | `:truncated`, `:wrong_length`, `:hash_mismatch`, `:encoded`, `:invalid_index` | the content is not what the Hub announced |
  | `:redirect_loop`, `:too_many_redirects`, `:insecure` | the Hub redirects in a way that is not followed |
  | `:too_large` | a file of the model exceeds a limit, which the message names |
  | `:cache_not_writable` | there is no directory for models, or it cannot be written to |
  | `:cache_not_readable` | a file of the cache cannot be read |
  | `:cancelled` | the process that asked for the download has ended |
  """

  defexception [:reason, :message]

  @type reason ::
          :invalid_label
          | :invalid_classifier
          | :invalid_embedding
          | :wrong_model
          | :invalid_image
          | :unsupported_image
          | :image_too_large
          | :not_found
          | :io
          | :unsupported_model
          | :unsupported_scores
          | :invalid_config
          | :invalid_weights
          | :invalid_tokenizer
          | :index_full
          | :invalid_index_file
          | :index_down
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
          | :cache_not_readable
          | :cancelled

  @type t :: %__MODULE__{reason: reason(), message: String.t()}

  @doc false
  @spec error(reason(), String.t()) :: {:error, t()}
  def error(reason, message), do: {:error, %__MODULE__{reason: reason, message: message}}

  # One sentence for a file that cannot be read, whatever it is for.
  @doc false
  @spec file(Path.t(), :file.posix()) :: t()
  def file(path, :enoent),
    do: %__MODULE__{reason: :not_found, message: "#{inspect(path)}: no such file"}

  def file(path, reason),
    do: %__MODULE__{reason: :io, message: "#{inspect(path)}: #{:file.format_error(reason)}"}

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
