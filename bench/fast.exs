# What `decode: :fast` loses: resized pixels in levels, and the cosine of embeddings to exact ones.
#
#     mix run bench/fast.exs DIRECTORY PICTURE...      # DIRECTORY: a model; PICTURE: a JPEG
alias Image.ZeroShot.{Native, Picture}
alias Image.ZeroShot.Call.Options
alias Image.ZeroShot.Serving.Client

[directory | pictures] = System.argv()
model = [repo: if(directory == "embedded", do: :embedded, else: {:local, directory})]
needs = %{pictures: 2, decoded_here: 2, prompts: [], parts: 1}

for picture <- pictures do
  [exact, fast] = for how <- [:exact, :fast], do: Options.embed!([decode: how] ++ model)
  {:ok, lease} = Client.checkout(exact, needs)

  [pixels, near] =
    for opts <- [exact, fast] do
      {:ok, opened} = Picture.open({:path, picture}, opts)
      {:ok, pixels} = Picture.pixels(opened, lease, opts)
      pixels
    end

  {:ok, %{images: rows}} = Client.run(lease, [pixels, near], [])
  :ok = Client.checkin(lease)

  pairs = Enum.zip(:binary.bin_to_list(pixels), :binary.bin_to_list(near))
  levels = for {a, b} <- pairs, do: abs(a - b)
  {row, other} = :erlang.split_binary(rows, div(byte_size(rows), 2))
  {:ok, cosine} = Native.cosine(row, other)

  IO.puts(
    "#{Path.basename(picture)}: mean #{Float.round(Enum.sum(levels) / length(levels), 3)}, " <>
      "most #{Enum.max(levels)} levels, cosine #{Float.round(cosine, 6)}"
  )
end
