defmodule Image.ZeroShot.Stub.Model do
  @moduledoc false

  # The model of a stub: a serving holds it as any other, with its queue and its limits. But the answers
  # come from the process of the caller, where the test that asks is known.
  #
  # `Image.ZeroShot.Picture` and `Image.ZeroShot.Serving.Client` find `:stub` among the facts about a
  # model and come here.

  @behaviour Image.ZeroShot.Serving.Runner

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Serving.{Client, Lease}
  alias Image.ZeroShot.Stub.{Answer, Owners, Words}

  # Small, so that pictures are decoded and checked but not much more.
  @side 32

  @impl true
  def key(opts), do: {:stub, opts.name}

  @impl true
  def open(opts), do: {:ok, :stub, facts(opts)}

  @impl true
  def close(:stub), do: :ok

  @impl true
  def encode(:stub, _tag, _pixels, _prompts),
    do: Error.error(:internal, "a stub answers in the process of the caller")

  defp facts(opts) do
    %{
      stub: opts.name,
      name: "stub",
      directory: nil,
      revision: nil,
      commit: nil,
      dim: opts.dim,
      logit_scale: Answer.scale(),
      logit_bias: opts.logit_bias,
      context_length: 77,
      image_size: @side,
      preprocessing: %{resize: {:shortest_edge, @side}, crop: {@side, @side}, filter: :bicubic},
      device: "cpu",
      requested_device: "cpu",
      device_note: nil,
      precision: "f32",
      format: "stub",
      weights: nil,
      tokenizer: [],
      encoders: nil,
      encoders_note: nil,
      memory: 0,
      max_batch: opts.max_batch || 16,
      concurrency: 1,
      threads: 1
    }
  end

  @doc """
  What goes through the call as the pixels of a picture: its row.
  """
  @spec pixels(Lease.t(), term(), Options.t()) :: {:ok, binary()} | {:error, Error.t()}
  def pixels(%{info: %{stub: name} = info}, given, opts) do
    answer = Owners.fetch!(name, {:picture, given})
    answer = if is_function(answer), do: Answer.check!(answer.(given)), else: answer

    with answer when not is_tuple(answer) <- answer,
         do: {:ok, answer |> Answer.vector(opts, info) |> Words.row(info.dim)}
  end

  @doc """
  What the model would answer.
  """
  @spec run(Lease.t(), [binary()], [String.t()]) ::
          {:ok, Client.embeddings()} | {:error, Error.t()}
  def run(_lease, rows, []), do: {:ok, embeddings(rows, [])}

  def run(%{info: %{stub: name, dim: dim}}, rows, prompts) do
    with answer when not is_tuple(answer) <- Owners.fetch!(name, {:texts, prompts}),
         do:
           {:ok,
            embeddings(rows, Enum.map(prompts, &(&1 |> Words.vector(dim) |> Words.row(dim))))}
  end

  defp embeddings(rows, texts) do
    %{
      images: IO.iodata_to_binary(rows),
      texts: IO.iodata_to_binary(texts),
      truncated: [],
      news: false
    }
  end
end
